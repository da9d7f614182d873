"""A batch of crops -> the two views of every modality, all samples at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from data_sharding.batch import TripleBatch
from data_sharding.logmel import LogMel
from data_sharding.schema import MODALITIES
from pretrain.models.inputs import Views
from pretrain.views.audio import AudioViewConfig
from pretrain.views.audio_changes import audio_views
from pretrain.views.checks import check_probability
from pretrain.views.image import ImageViewConfig
from pretrain.views.natural import NaturalViewConfig
from pretrain.views.photometric import IMAGE_DRAWS, draw_changes, photometric
from pretrain.views.random import Purpose, below, draw_doubles
from pretrain.views.text import TextViewConfig
from pretrain.views.vocabulary import TextVocabulary

SUBSET_DRAWS = 4
"""Numbers that a subset is made of: one of each modality, and which one stays of none."""


@dataclass(frozen=True, kw_only=True)
class SubsetConfig:
    """Modality dropout: what the online network's fusion may use of a sample in a view.

    The target's fusion uses everything, and the online one learns to predict it from what is
    left. Attention goes to what tells samples apart most easily; in a small corpus that is the
    text, and a fusion that may always read it learns nothing of the rest.
    """

    text: float = 0.5
    """Chance that the text may be used."""

    image: float = 0.5
    """Chance that the picture may be used."""

    audio: float = 0.5
    """Chance that the sound may be used. Where nothing is left, one modality is drawn."""

    def __post_init__(self) -> None:
        for name in MODALITIES:
            check_probability(f"subset.{name}", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class ViewsConfig:
    """How the two views of a sample differ."""

    image: ImageViewConfig = field(default_factory=ImageViewConfig)
    audio: AudioViewConfig = field(default_factory=AudioViewConfig)
    text: TextViewConfig = field(default_factory=TextViewConfig)
    natural: NaturalViewConfig = field(default_factory=NaturalViewConfig)
    subset: SubsetConfig = field(default_factory=SubsetConfig)

    def vocabulary(self, tokenizer_file: Path) -> TextVocabulary:
        """What the text views need of a tokenizer.

        Raises:
            ValueError: as `TextVocabulary.load`.
        """
        return TextVocabulary.load(tokenizer_file, self.text.all_protected())


class Augment:
    """Turns a TripleBatch, cut by `TrainCrops`, into `Views`, where its pictures and clips lie.

    On the processor of a rank with a GPU that leaves the draws: some microseconds a sample.

    Args:
        config: What is changed, and how much.
        log_mel: Waveform to log-mel, as the backbone's; on the device of the batches.
        seed: Of the run.
        dtype: Of the pictures, float32 or bfloat16; sounds are float32 in any case.
        compiled: Whether torch.compile makes few kernels of all that is done to sounds. Its first
            batch takes a minute; the results differ by rounding.
    """

    def __init__(
        self,
        config: ViewsConfig,
        log_mel: LogMel,
        seed: int,
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
    ) -> None:
        self._config = config
        self._log_mel = log_mel
        self._seed = seed
        self._dtype = dtype
        # Batches have one shape; what cannot be one graph must fail, not fall back.
        self._audio_views = (
            torch.compile(audio_views, fullgraph=True, dynamic=False) if compiled else audio_views
        )

    def __call__(self, batch: TripleBatch) -> Views:
        """Two views of every sample of this rank's part of a global batch.

        Args:
            batch: Sample ids, epochs and what is present lie on the CPU, the rest on one device.

        Raises:
            ValueError: mixup's group does not divide the batch.
        """
        self._config.audio.check_share(len(batch))
        device = batch.image.device
        draws = self.draw(batch.sample_ids, batch.epochs, device)
        present = batch.present.to(device, non_blocking=True)
        return Views(
            token_ids=batch.token_ids.transpose(0, 1),
            token_mask=batch.token_mask.transpose(0, 1),
            image=photometric(
                batch.image.transpose(0, 1),
                draw_changes(draws["image"], self._config.image),
                self._config.image,
                self._dtype,
            ),
            log_mel=self._audio_views(
                batch.waveform.transpose(0, 1), draws, self._config.audio, self._log_mel
            ),
            present=present,
            subset=draw_subset(present, draws["subset"], self._config.subset),
            complete=bool(batch.present.all()),
        )

    def draw(
        self,
        sample_ids: Int64[Tensor, " batch"],
        epochs: Int64[Tensor, " batch"],
        device: torch.device,
    ) -> Mapping[Purpose, Float64[Tensor, "view batch _"]]:
        """All the random numbers of a batch, drawn on the CPU and sent to a device in one copy.

        Args:
            sample_ids: On the CPU.
            epochs: On the CPU.
            device: Where the numbers are used.

        Returns:
            Purpose -> doubles in [0, 1).
        """
        counts: dict[Purpose, int] = {
            "image": IMAGE_DRAWS,
            "subset": SUBSET_DRAWS,
            **self._config.audio.num_draws,
        }
        drawn = draw_doubles(self._seed, epochs.numpy(), sample_ids.numpy(), counts)
        sent = torch.from_numpy(drawn).to(device, non_blocking=True)
        columns = sent.split(list(counts.values()), -1)
        return dict(zip(counts, columns, strict=True))


def draw_subset(
    present: Bool[Tensor, "batch 3"], draws: Float64[Tensor, "view batch 4"], config: SubsetConfig
) -> Bool[Tensor, "view batch 3"]:
    """A random non-empty subset of what each sample has.

    Args:
        present: What there is.
        draws: `SUBSET_DRAWS` of each sample and view, even in [0, 1).
        config: How much is kept.
    """
    kept = torch.stack(
        [draws[..., place] < getattr(config, name) for place, name in enumerate(MODALITIES)], -1
    )
    kept = kept & present
    chosen = below(draws[..., 3], present.sum(-1).expand(draws.shape[:2]))
    only = present & (present.cumsum(-1) - 1 == chosen[..., None])
    return torch.where(kept.any(-1, keepdim=True), kept, only)
