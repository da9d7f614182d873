"""The built-in inputs of reference embeddings: three made-up samples, the same every time."""

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from data_sharding.batch import DecodedSample, TripleBatch
from pretrain.models import Backbone

INPUTS = ("token_ids", "token_mask", "image", "waveform", "present")
"""Tensors of a batch that decide what is computed."""

_PRESENT = ((True, True, True), (True, False, False), (False, True, True))


def made_up_batch(backbone: Backbone) -> TripleBatch:
    """Three different samples of tokens, pixels and sound from a fixed seed.

    The first has all modalities, the second a text alone, the third no text.
    """
    generator = torch.Generator().manual_seed(0)
    transform = backbone.preprocess()
    rows = [transform(_made_up_sample(index, generator)) for index in range(len(_PRESENT))]
    inputs = {
        name: torch.stack([getattr(row, name) for row in rows])
        for name in ("token_ids", "token_mask", "image", "waveform")
    }
    return as_batch(inputs | {"present": torch.tensor(_PRESENT)})


def as_batch(inputs: dict[str, Tensor]) -> TripleBatch:
    """The batch with these tensors; see `INPUTS`."""
    count = len(inputs["present"])
    return TripleBatch(
        keys=tuple(f"reference-{index}" for index in range(count)),
        sample_ids=torch.arange(count),
        epochs=torch.zeros(count, dtype=torch.int64),
        valid=torch.ones(count, dtype=torch.bool),
        metadata=(),
        texts=(),
        **inputs,
    )


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
