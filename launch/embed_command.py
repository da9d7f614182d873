"""`triptych embed`: embeddings of one's own texts, pictures and recordings."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from eval.release.embed import EmbedConfig, embed


@dataclass(frozen=True, kw_only=True)
class EmbedCommand:
    """Embed texts, pictures and recordings with a published backbone.

    An input is a file (txt, jpg, png, webp, flac, wav, ogg, mp3), a folder whose files of one name
    are one sample, a table (csv, jsonl, parquet) with the columns id, text, image and audio, or
    WebDataset tars. Pictures and recordings of a table are paths beside it.
    """

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Files, folders, tables."""

    backbone: Path
    """A published backbone, a checkpoint, or a run for its newest checkpoint."""

    out: Path
    """File to write. .parquet: a row per sample with id, source and the embeddings, null where a
    modality is missing. .npy: an array of one representation, and FILE.ids.json beside it."""

    config: Annotated[EmbedConfig, tyro.conf.arg(name="")] = field(default_factory=EmbedConfig)


def embed_command(arguments: list[str]) -> int:
    """`triptych embed`."""
    command = tyro.cli(EmbedCommand, args=arguments, prog="triptych embed")
    tally = embed(command.inputs, command.backbone, command.out, command.config)
    skipped = f", {tally.skipped} broken ones left out" if tally.skipped else ""
    print(f"{command.out}: {tally.embedded} samples{skipped}")
    return 0
