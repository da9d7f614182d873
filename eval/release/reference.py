"""A reference embedding: fixed inputs and what the backbone made of them, kept beside the weights.

Whoever loads a published folder, or one encoder's folder of it, can check in a second that it
computes what it computed when it was published: ``python -m eval.release.reference FOLDER``.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel
from transformers.utils import logging as transformers_logging

from data_sharding.schema import MODALITIES
from eval.records import read_json
from eval.release.reference_inputs import INPUTS, as_batch, made_up_batch
from pretrain.models import Backbone
from pretrain.models.exported import exportable, exported_embedding, transformers_inputs

REFERENCE_FILE = "reference_embedding.safetensors"
TOLERANCE = 1e-4
"""Largest absolute difference; float32 sums differ in the last digits between processors."""

_OUTPUTS = (*MODALITIES, "fused")


def write_reference(backbone: Backbone, folder: Path) -> None:
    """Encode three made-up samples (all modalities, text alone, no text) and keep the result.

    Each encoder's folder gets a file of its own: what transformers is to be called with, and the
    joint backbone's embedding.
    """
    batch = made_up_batch(backbone)
    embeddings = backbone.encode(batch)
    _save({name: getattr(batch, name) for name in INPUTS}, embeddings.by_name(), folder)
    arguments = transformers_inputs(backbone, backbone.inputs(batch))
    for name in exportable(backbone):
        _save(arguments[name], {"embedding": getattr(embeddings, name)}, folder / name)


def check_reference(folder: Path) -> float:
    """Load a published backbone, or one encoder's folder, and compare with what was kept.

    Returns:
        The largest absolute difference of any feature.

    Raises:
        ValueError: A feature differs by more than `TOLERANCE`, or something cannot be loaded.
    """
    if is_encoder_folder(folder):
        return _check_encoder(folder)
    backbone = Backbone.load(folder)
    record = _load(folder)
    given = {name: record[f"input.{name}"] for name in INPUTS}
    found = backbone.encode(as_batch(given)).by_name()
    worst = max(_difference(name, found[name], record[name], folder) for name in _OUTPUTS)
    parts = [folder / name for name in MODALITIES if (folder / name).is_dir()]
    for part in parts:
        own = _load(part)["embedding"]
        if not torch.equal(own, record[part.name]):
            raise ValueError(f"{part / REFERENCE_FILE}: is of another backbone than {folder}")
    return max([worst, *map(_check_encoder, parts)])


def is_encoder_folder(folder: Path) -> bool:
    """Whether it is one encoder as transformers saves it, and no joint backbone."""
    return "model_type" in read_json(folder / "config.json")


def check_in_fresh_process(folder: Path) -> str:
    """Run `check_reference` in a new interpreter, which knows nothing of this one.

    Returns:
        What it found, as a sentence.

    Raises:
        ValueError: The check failed; with its last line.
    """
    command = [sys.executable, "-m", "eval.release.reference", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise ValueError(f"the published backbone does not load as it should: {lines[-1]}")
    return done.stdout.strip()


def _check_encoder(folder: Path) -> float:
    """Transformers alone must give the embedding of the joint backbone's encoder.

    It adds a pooler to BERT and ViT, whatever the folder holds, with fresh weights; the card
    says so, and the embedding does not use it.
    """
    record = _load(folder)
    given = {
        name.removeprefix("input."): value for name, value in record.items() if name != "embedding"
    }
    model = AutoModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    found = exported_embedding(model, given)
    return _difference("embedding", found, record["embedding"], folder)


def _difference(name: str, found: Tensor, expected: Tensor, folder: Path) -> float:
    if found.shape != expected.shape:
        raise ValueError(f"{folder}: {name} has another shape than in {REFERENCE_FILE}")
    difference = float((found.float() - expected).abs().max())
    if not difference <= TOLERANCE:
        raise ValueError(
            f"{folder}: {name} features differ from {REFERENCE_FILE} by {difference:.2e} "
            f"(at most {TOLERANCE:.0e}); the weights in model.safetensors or the code changed"
        )
    return difference


def _save(inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor], folder: Path) -> None:
    record = {f"input.{name}": value for name, value in inputs.items()}
    record |= {name: value.float() for name, value in outputs.items()}
    save_file(
        {name: value.cpu().contiguous() for name, value in record.items()}, folder / REFERENCE_FILE
    )


def _load(folder: Path) -> dict[str, Tensor]:
    try:
        return load_file(folder / REFERENCE_FILE)
    except FileNotFoundError:
        raise ValueError(f"{folder}: no {REFERENCE_FILE}, so nothing to compare with") from None
    except SafetensorError as error:
        raise ValueError(f"{folder / REFERENCE_FILE}: cannot be read ({error})") from None


def main() -> int:
    """``python -m eval.release.reference FOLDER``: 0 when the features are as published."""
    parser = argparse.ArgumentParser(description=check_reference.__doc__)
    parser.add_argument("folder", type=Path)
    transformers_logging.disable_progress_bar()
    try:
        worst = check_reference(parser.parse_args().folder)
    except (ValueError, OSError, KeyError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"features as published, largest difference {worst:.1e}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
