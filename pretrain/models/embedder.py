"""A published backbone for ordinary inputs: texts, pictures and recordings in, embeddings out."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float32
from PIL import Image
from torch import Tensor

from data_sharding.schema import MODALITIES
from pretrain.models.backbone import Backbone, Embeddings
from pretrain.models.encoded import Encoded
from pretrain.models.inputs import ModelInputs
from pretrain.models.ordinary_inputs import (
    PictureInput,
    SoundInput,
    read_picture,
    read_sound,
    read_text,
)
from pretrain.models.preprocess import to_unit_range
from pretrain.models.sums import refuse_changed


class Embedder:
    """The three encoders and their fusion, in evaluation mode and without gradients.

    Loads with torch and transformers; no network, no code of others.

    Args:
        backbone: What `Backbone.load` gives.
        device: Where to compute.
        batch_size: Samples of one forward pass.
    """

    def __init__(
        self, backbone: Backbone, device: torch.device | str = "cpu", batch_size: int = 32
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.backbone = backbone.eval().to(device)
        self.batch_size = batch_size
        self._decoder = backbone.decoder()
        self._preprocess = backbone.preprocess()

    @classmethod
    def load(
        cls, folder: Path | str, device: torch.device | str = "cpu", batch_size: int = 32
    ) -> "Embedder":
        """The backbone of a published folder, or of a checkpoint's ``backbone`` folder.

        Raises:
            ValueError: The folder holds no backbone, or one of another format; a file differs from
                what was published.
        """
        backbone = Backbone.load(Path(folder))
        refuse_changed(Path(folder))
        return cls(backbone, device, batch_size)

    def encode_text(self, texts: Sequence[str]) -> Float32[Tensor, "row embed"]:
        """One embedding per text; texts are cut at the backbone's number of tokens."""
        return self.encode(text=texts).text

    def encode_image(self, pictures: Sequence[PictureInput]) -> Float32[Tensor, "row embed"]:
        """One embedding per picture."""
        return self.encode(image=pictures).image

    def encode_audio(self, sounds: Sequence[SoundInput]) -> Float32[Tensor, "row embed"]:
        """One embedding per recording, of its first ``clip_seconds``."""
        return self.encode(audio=sounds).audio

    def encode(
        self,
        *,
        text: Sequence[str | None] | None = None,
        image: Sequence[PictureInput | None] | None = None,
        audio: Sequence[SoundInput | None] | None = None,
    ) -> Embeddings:
        """Embeddings of samples that have any of the modalities, and their fusion.

        Args:
            text: One per sample, None where it has none; None for no text at all.
            image: Likewise.
            audio: Likewise.

        Returns:
            On the CPU, in float32; zeros where a sample lacks a modality.

        Raises:
            InputError: An input cannot be read.
            ValueError: No inputs, different numbers of them, a sample without any, or one sample
                where a list is needed.
        """
        given = {
            name: values
            for name, values in zip(MODALITIES, (text, image, audio), strict=True)
            if values is not None
        }
        for name, values in given.items():
            refuse_one_sample(name, values)
        size = _num_samples(given)
        pieces = []
        for start in range(0, size, self.batch_size):
            rows = {name: values[start : start + self.batch_size] for name, values in given.items()}
            pieces.append(self._encode_batch(rows, min(self.batch_size, size - start)))
        names = (*MODALITIES, "fused", "present")
        return Embeddings(
            **{name: torch.cat([getattr(piece, name) for piece in pieces]) for name in names}
        )

    @torch.no_grad()
    def _encode_batch(self, given: Mapping[str, Sequence[Any]], rows: int) -> Embeddings:
        """One forward pass; encoders of modalities that no row has are not run."""
        device = self.backbone.image_mean.device
        columns = [_is_there(given.get(name), rows) for name in MODALITIES]
        present = torch.stack(columns, dim=1)
        used = [name for name, there in zip(MODALITIES, columns, strict=True) if there.any()]
        if not present.any(1).all():
            raise ValueError("a sample needs a text, a picture or a recording")
        read = {name: self._inputs_of(name, given[name]) for name in used}
        inputs = ModelInputs(
            **self._nothing(rows) | {k: v for part in read.values() for k, v in part.items()}
        )
        encoded = self.backbone.embed(inputs, used)
        parts = {name: encoded.get(name) or self._absent(name, rows) for name in MODALITIES}
        fused = self.backbone.fuse(parts, present.to(device))
        pooled = {
            name: part.pooled.float().cpu() * there.unsqueeze(1)
            for (name, part), there in zip(parts.items(), columns, strict=True)
        }
        return Embeddings(**pooled, fused=fused.float().cpu(), present=present)

    def _inputs_of(self, name: str, values: Sequence[Any]) -> dict[str, Tensor]:
        """Fields of `ModelInputs` that a modality fills, on the device."""
        device = self.backbone.image_mean.device
        if name == "text":
            rows = [
                self._preprocess.tokens(_given(read_text, text, self._decoder)) for text in values
            ]
            ids, masks = zip(*rows, strict=True)
            return {
                "token_ids": torch.stack(ids).to(device),
                "token_mask": torch.stack(masks).to(device),
            }
        if name == "image":
            pictures = [self._preprocess.picture(_given(read_picture, value)) for value in values]
            return {"image": to_unit_range(torch.stack(pictures).to(device))}
        clips = [
            self._preprocess.clip(_given(read_sound, value, self._decoder)) for value in values
        ]
        return {"log_mel": self.backbone.log_mel(torch.stack(clips).to(device))}

    def _nothing(self, rows: int) -> dict[str, Tensor]:
        """Inputs of no size, for encoders that are not run."""
        device = self.backbone.image_mean.device
        return {
            "token_ids": torch.zeros(rows, 0, dtype=torch.int64, device=device),
            "token_mask": torch.zeros(rows, 0, dtype=torch.bool, device=device),
            "image": torch.zeros(rows, 3, 0, 0, device=device),
            "log_mel": torch.zeros(rows, 1, 0, device=device),
        }

    def _absent(self, name: str, rows: int) -> Encoded:
        """A modality that no row has; the fusion does not look at it."""
        device, dims = self.backbone.image_mean.device, self.backbone.embed_dims
        token_dim = int(self.backbone.encoders[name].token_dim)  # type: ignore[arg-type]
        return Encoded(
            pooled=torch.zeros(rows, dims[name], device=device),
            tokens=torch.zeros(rows, 1, token_dim, device=device),
            token_mask=torch.zeros(rows, 1, dtype=torch.bool, device=device),
        )


def refuse_one_sample(name: str, values: object) -> None:
    """Refuse what is one sample itself: a text's letters are no texts.

    Raises:
        ValueError: A text, a path, bytes, a picture, or a waveform with its rate.
    """
    pair = isinstance(values, tuple) and len(values) == 2 and isinstance(values[1], int)
    if pair or isinstance(values, str | bytes | bytearray | Path | Image.Image):
        raise ValueError(f"{name}: one {type(values).__name__} is one sample; give a list of them")


def _given(read: Callable[..., Tensor], value: object, *others: object) -> Tensor | None:
    return None if value is None else read(value, *others)


def _is_there(values: Sequence[Any] | None, rows: int) -> Bool[Tensor, " row"]:
    if values is None:
        return torch.zeros(rows, dtype=torch.bool)
    return torch.tensor([value is not None for value in values])


def _num_samples(given: Mapping[str, Sequence[Any]]) -> int:
    sizes = {name: len(values) for name, values in given.items()}
    if not sizes or 0 in sizes.values() or len(set(sizes.values())) != 1:
        found = ", ".join(f"{size} of {name}" for name, size in sizes.items()) or "none"
        raise ValueError(f"needs as many inputs of each modality that is given, got {found}")
    return next(iter(sizes.values()))
