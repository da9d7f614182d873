"""A reference embedding: fixed inputs and what the backbone made of them, kept beside the weights.

Whoever loads a published folder can check in a second that it computes what it computed when it
was published: ``python -m eval.reference FOLDER``.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch
from jaxtyping import Float32, Int64
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel
from transformers.utils import logging as transformers_logging

from data_sharding.batch import DecodedSample, TripleBatch
from data_sharding.schema import MODALITIES
from pretrain.models import Backbone

REFERENCE_FILE = "reference_embedding.safetensors"
TOLERANCE = 1e-4
"""Largest absolute difference; float32 sums differ in the last digits between processors."""

_PRESENT = ((True, True, True), (True, False, False), (False, True, True))
_OUTPUTS = (*MODALITIES, "fused")


def write_reference(backbone: Backbone, folder: Path) -> None:
    """Encode three made-up samples (all modalities, text alone, no text) and keep the result."""
    batch = _made_up_batch(backbone)
    embeddings = backbone.encode(batch)
    record = {f"input.{name}": getattr(batch, name) for name in _INPUTS}
    record |= {name: getattr(embeddings, name).float().cpu() for name in _OUTPUTS}
    save_file({name: value.contiguous() for name, value in record.items()}, folder / REFERENCE_FILE)


def check_reference(folder: Path) -> float:
    """Load the joint backbone and the transformers folders; compare with what was kept.

    Returns:
        The largest absolute difference of any feature.

    Raises:
        ValueError: A feature differs by more than `TOLERANCE`, or a transformers folder holds
            other weights than the joint backbone.
    """
    backbone = Backbone.load(folder)
    record = load_file(folder / REFERENCE_FILE)
    embeddings = backbone.encode(_batch({name: record[f"input.{name}"] for name in _INPUTS}))
    worst = 0.0
    for name in _OUTPUTS:
        difference = float((getattr(embeddings, name).float() - record[name]).abs().max())
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{folder}: {name} features differ from {REFERENCE_FILE} by {difference:.2e} "
                f"(at most {TOLERANCE:.0e}); the weights or the code changed"
            )
        worst = max(worst, difference)
    for name in MODALITIES:
        if (folder / name).is_dir():
            _compare_transformers(backbone, folder, name)
    return worst


def check_in_fresh_process(folder: Path) -> None:
    """Run `check_reference` in a new interpreter, which knows nothing of this one.

    Raises:
        ValueError: The check failed; with its last line.
    """
    command = [sys.executable, "-m", "eval.reference", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise ValueError(f"the published backbone does not load as it should: {lines[-1]}")


def _compare_transformers(backbone: Backbone, folder: Path, name: str) -> None:
    """AutoModel alone must give the weights of the joint backbone's encoder.

    It adds a pooler, whatever the folder holds, with fresh weights; the card says so.
    """
    alone = AutoModel.from_pretrained(folder / name).state_dict()
    joint = backbone.encoders[name].model.state_dict()  # type: ignore[union-attr]
    strange = sorted(name for name in alone.keys() ^ joint.keys() if not name.startswith("pooler."))
    strange += [key for key in joint if key in alone and not torch.equal(alone[key], joint[key])]
    if strange:
        raise ValueError(f"{folder / name}: {strange[0]} differs from the joint backbone's")


_INPUTS = ("token_ids", "token_mask", "image", "waveform", "present")


def _made_up_batch(backbone: Backbone) -> TripleBatch:
    """Three different samples of tokens, pixels and sound from a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    transform = backbone.preprocess()
    rows = [transform(_made_up_sample(index, generator)) for index in range(len(_PRESENT))]
    inputs = {
        name: torch.stack([getattr(row, name) for row in rows])
        for name in ("token_ids", "token_mask", "image", "waveform")
    }
    return _batch(inputs | {"present": torch.tensor(_PRESENT)})


def _made_up_sample(index: int, generator: torch.Generator) -> DecodedSample:
    seconds = torch.arange(16_000) / 16_000
    waveform: Float32[Tensor, " time"] = 0.3 * torch.sin(6283.0 * (0.2 + index) * seconds**2)
    token_ids: Int64[Tensor, " token"] = torch.arange(2, 10 + index)
    return DecodedSample(
        key=f"reference-{index}",
        sample_id=index,
        epoch=0,
        token_ids=token_ids,
        image=torch.randint(0, 256, (3, 80, 96), dtype=torch.uint8, generator=generator),
        waveform=waveform,
        text=None,
        metadata=None,
    )


def _batch(inputs: dict[str, Tensor]) -> TripleBatch:
    count = len(_PRESENT)
    return TripleBatch(
        keys=tuple(f"reference-{index}" for index in range(count)),
        sample_ids=torch.arange(count),
        epochs=torch.zeros(count, dtype=torch.int64),
        valid=torch.ones(count, dtype=torch.bool),
        metadata=(),
        texts=(),
        **inputs,
    )


def main() -> int:
    """``python -m eval.reference FOLDER``: exit code 0 when the features are as published."""
    parser = argparse.ArgumentParser(description=check_reference.__doc__)
    parser.add_argument("folder", type=Path)
    transformers_logging.disable_progress_bar()
    try:
        worst = check_reference(parser.parse_args().folder)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"features as published, largest difference {worst:.1e}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
