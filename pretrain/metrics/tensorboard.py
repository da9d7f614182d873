"""TensorBoard pages that can be read: grouped curves with words, the views, the embeddings."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from pretrain.metrics.guide import PAGES, as_markdown

TILE_PIXELS = 128
PROBE_BYTES = 1 << 16
"""So much must be free before curves are begun again after a failure."""


class TensorBoardSink:
    """Scalars by name; what is before a slash is the page's group.

    The custom-scalars tab holds the pages of `guide`, the text tab says what each curve should
    look like, the image tab holds the run's sheet of views, where there is one.

    A failure, as on a full disk, ends the thread of TensorBoard's writer for good, and what it
    had queued is lost here. Once there is room, another writer goes on.

    Args:
        folder: Of the event files.
        resumed_at: Later scalars, left by a killed run, are hidden.
        views_sheet: ``views.json`` of the run.
    """

    def __init__(self, folder: Path, resumed_at: int, views_sheet: Path | None = None) -> None:
        self._folder = folder
        self._failed = False
        purge = resumed_at + 1 if resumed_at else None
        self._writer = SummaryWriter(str(folder), purge_step=purge)
        if resumed_at:
            return
        self._writer.add_custom_scalars(
            {
                page.title: {curve.title: ["Multiline", _tags(curve.tags)] for curve in page.curves}
                for page in PAGES
            }
        )
        for page in PAGES:
            self._writer.add_text(f"guide/{page.title}", as_markdown(page), 0)
        if views_sheet is not None and views_sheet.is_file():
            sheet = draw_views_sheet(json.loads(views_sheet.read_text())["samples"])
            self._writer.add_image("views/first_batch", sheet, 0, dataformats="HWC")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add scalars."""
        if self._failed:
            self._go_on()
        try:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
        except OSError:
            self._failed = True
            raise

    def _go_on(self) -> None:
        # Where there is no room yet, a new writer would print its thread's death each time.
        probe = self._folder / "probe"
        try:
            probe.write_bytes(bytes(PROBE_BYTES))
        finally:
            probe.unlink(missing_ok=True)
        self._writer = SummaryWriter(str(self._folder))
        self._failed = False

    def write_embeddings(
        self,
        step: int,
        by_source: Mapping[str, tuple[Float[Tensor, "sample _"], Sequence[str]]],
    ) -> None:
        """Give the embedding projector one table per source, with the samples' keys."""
        for source, (rows, keys) in by_source.items():
            self._writer.add_embedding(
                rows.float().cpu(), metadata=list(keys), global_step=step, tag=source
            )

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


NO_VIEWS = (None, None)
"""Of a missing modality: its places stay, so that rows are of one width."""


def draw_views_sheet(
    samples: Sequence[Mapping[str, Any]],
) -> UInt8[np.ndarray, "height width 3"]:
    """A row for each sample: picture, its views, sound, its views."""
    rows = []
    for sample in samples:
        uris = [
            sample.get("image"),
            *(sample.get("image_views") or NO_VIEWS),
            sample.get("spectrogram"),
            *(sample.get("spectrogram_views") or NO_VIEWS),
        ]
        rows.append(np.concatenate([_tile(uri) for uri in uris], axis=1))
    return np.concatenate(rows, axis=0)


def _tile(uri: str | None) -> UInt8[np.ndarray, "height width 3"]:
    """A picture from its data URI; grey where there is none."""
    if not uri:
        return np.full((TILE_PIXELS, TILE_PIXELS, 3), 128, dtype=np.uint8)
    picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")
    return np.asarray(picture.resize((TILE_PIXELS, TILE_PIXELS)), dtype=np.uint8)


def _tags(patterns: Sequence[str]) -> list[str]:
    # TensorBoard searches; the guide's patterns are of whole tags.
    return [f"^{pattern}$" for pattern in patterns]
