"""Samples and their views as one self-contained page."""

from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from data_sharding.durable import write_durably
from launch.views_sheet import SheetSample
from pretrain.config import PretrainConfig

TEMPLATES = Path(__file__).parent / "templates"


def write_views_page(
    samples: list[SheetSample], config: PretrainConfig, mask_token: str, path: Path
) -> Path:
    """Writes the page; everything that comes from data is escaped.

    Raises:
        OSError: `path` cannot be written.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((TEMPLATES / "views.html").read_text("utf-8"))
    page = template.render(
        shards=config.data.shards,
        style=Markup((TEMPLATES / "views.css").read_text("utf-8")),
        facts=list(_facts(config, len(samples))),
        samples=samples,
        mask_token=mask_token,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, page.encode("utf-8", "replace"))
    return path


def _facts(config: PretrainConfig, num_samples: int) -> Iterator[tuple[str, str]]:
    """What was drawn, in the numbers that decide it."""
    views = config.views
    yield "samples shown", str(num_samples)
    yield "seed", str(config.seed)
    least, most = views.image.crop_scale
    yield "picture's area kept", f"{100 * least:g} to {100 * most:g} %"
    yield "clip", f"{views.audio.crop_seconds:g} s"
    yield "tokens masked", _percent(views.text.mask_probability)
    yield "mixed in", f"up to {100 * views.audio.mixup_ratio:g} %"


def _percent(pair: tuple[float, float]) -> str:
    return " / ".join(f"{100 * value:g} %" for value in pair)
