"""`triptych views`: what training does to some samples, as a page to look at and listen to."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from data_sharding.stream.order import OrderConfig
from launch.recipes import RECIPES, find_recipe
from launch.run_config import RunConfig, load_run_config
from launch.views_page import write_views_page
from launch.views_sheet import NUM_SAMPLES, SheetDrawer
from pretrain.config import MAX_SEED, PretrainConfig

ANY_ORDER = OrderConfig(block_samples=1, lanes=1)
"""Of bare shards, which may be far fewer than a run needs."""


@dataclass(frozen=True, kw_only=True)
class ViewsCommand:
    """Draw the two views of some samples: pictures, spectrograms, sound, text with its masks.

    Nothing is trained. The first argument is a shard set (with the views of the recipe `base`),
    a run folder, a recipe, or --config run/config.json.
    """

    pretrain: PretrainConfig
    """The run whose views are drawn."""

    out: Path = Path("views.html")
    """Page to write."""

    num_samples: Annotated[int, tyro.conf.arg(aliases=["-n"])] = NUM_SAMPLES
    """Samples on the page."""

    seed: int | None = None
    """Of the views; None is the run's."""

    epoch: int | None = None
    """Epoch whose views are drawn; None is the first one of each sample."""

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ValueError(f"num_samples must be positive, got {self.num_samples}")
        for name in ("seed", "epoch"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < MAX_SEED:
                raise ValueError(f"{name} must be in [0, 2^63), got {value}")
        if self.out.is_dir():
            raise ValueError(f"--out {self.out} is a folder; name a page, as {self.out}/views.html")


def views_command(arguments: list[str]) -> int:
    """`triptych views`."""
    default, rest = _default_run(arguments)
    command = tyro.cli(
        ViewsCommand,
        args=rest,
        prog="triptych views SHARDS|RECIPE",
        default=ViewsCommand(pretrain=default.pretrain),
    )
    config = command.pretrain
    if command.seed is not None:
        config = replace(config, seed=command.seed)
    drawer = SheetDrawer(config)
    samples = drawer.draw(command.num_samples, command.epoch)
    print(write_views_page(samples, config, drawer.mask_token, command.out))
    return 0


def _default_run(arguments: list[str]) -> tuple[RunConfig, list[str]]:
    """The run to draw from, and the other arguments."""
    if "--config" in arguments[:-1]:
        at = arguments.index("--config")
        return load_run_config(Path(arguments[at + 1])), arguments[:at] + arguments[at + 2 :]
    if arguments and arguments[0] in RECIPES and not Path(arguments[0]).exists():
        return find_recipe(arguments[0]), arguments[1:]
    if arguments and (Path(arguments[0]) / "config.json").is_file():
        return load_run_config(Path(arguments[0])), arguments[1:]
    if arguments and not arguments[0].startswith("-"):
        run = find_recipe("base")
        loader = replace(run.pretrain.data.loader, order=ANY_ORDER)
        data = replace(run.pretrain.data, shards=arguments[0], loader=loader)
        return replace(run, pretrain=replace(run.pretrain, data=data)), arguments[1:]
    if {"-h", "--help"} & set(arguments):
        return find_recipe("base"), arguments
    raise ValueError(
        "give shards, a run, a recipe or --config run/config.json: triptych views "
        f"{{SHARDS,{','.join(RECIPES)}}}"
    )
