"""What the encoders give besides one embedding, kept in memory: tokens of a whole task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from eval.card import Task
from eval.free_memory import MEMORY_SHARE, available_bytes
from eval.representations import modalities_of
from eval.samples import TaskSamples
from pretrain.models import Encoded

ByModality = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class TokenTable:
    """Frozen tokens of a task's samples, by modality."""

    values: Mapping[str, Float32[Tensor, "read part dim"]]
    """Rows as they were read; parts and dimensions differ from modality to modality."""
    masks: Mapping[str, Bool[Tensor, "sample part"]]
    """True where a sample has the token; none where it lacks the modality."""
    places: Int64[Tensor, "sample"]
    """Row of each sample among ``values``."""

    @classmethod
    def of(
        cls, values: Mapping[str, Float32[Tensor, "sample part dim"]], masks: Mapping[str, Tensor]
    ) -> "TokenTable":
        """Where every row that was read is a sample."""
        count = len(next(iter(values.values())))
        return cls(values=values, masks=masks, places=torch.arange(count))

    @property
    def dims(self) -> dict[str, int]:
        """Dimension of a token, by modality."""
        return {name: value.shape[2] for name, value in self.values.items()}

    @property
    def num_parts(self) -> int:
        """Tokens of a sample that has all of the modalities."""
        return sum(value.shape[1] for value in self.values.values())

    def read_by(self, representation: str) -> "TokenTable":
        """Tokens of the modalities that a representation reads, in the same memory."""
        names = [name for name in modalities_of(representation) if name in self.values]
        return replace(
            self,
            values={name: self.values[name] for name in names},
            masks={name: self.masks[name] for name in names},
        )

    def at(self, rows: Int64[Tensor, "row"], device: torch.device) -> tuple[ByModality, ByModality]:
        """Tokens [row, part, dim] and masks [row, part] of some samples, by modality."""
        places = self.places[rows]
        return (
            {name: value[places].to(device) for name, value in self.values.items()},
            {name: mask[rows].to(device) for name, mask in self.masks.items()},
        )


@dataclass(kw_only=True)
class TokenStore:
    """Takes the tokens of one backbone batch by batch, into memory that is taken once.

    Attributes:
        task: Whose samples they are.
        modalities: Which encoders' tokens are kept.
        num_stores: So many are filled at the same time, and must fit together.
    """

    task: Task
    modalities: Sequence[str]
    num_stores: int
    _values: ByModality = field(default_factory=dict, init=False)
    _masks: ByModality = field(default_factory=dict, init=False)
    _filled: int = field(default=0, init=False)

    def add(self, encoded: Mapping[str, Encoded]) -> None:
        """Copy the next batch into its place.

        Raises:
            ValueError: At the first batch: the tokens of all samples would not fit in memory.
        """
        if self._filled == 0:
            self._make_room(encoded)
        for name in self.modalities:
            part = encoded[name]
            rows = slice(self._filled, self._filled + len(part.tokens))
            self._values[name][rows] = part.tokens.float().cpu()
            self._masks[name][rows] = part.token_mask.cpu()
        self._filled += len(next(iter(encoded.values())).tokens)

    def table(self, samples: TaskSamples) -> TokenTable:
        """The tokens of the labelled samples, those that lack a modality masked."""
        assert samples.places is not None
        places = torch.from_numpy(samples.places)
        masks = {
            name: mask[places] & torch.from_numpy(samples.has(name))[:, None]
            for name, mask in self._masks.items()
        }
        return TokenTable(values=self._values, masks=masks, places=places)

    def _make_room(self, encoded: Mapping[str, Encoded]) -> None:
        total = sum(part.num_samples for part in self.task.parts)
        shapes = {name: tuple(encoded[name].tokens.shape[1:]) for name in self.modalities}
        size = 4 * total * self.num_stores * sum(parts * dim for parts, dim in shapes.values())
        free = available_bytes()
        if size > MEMORY_SHARE * free:
            told = ", ".join(f"{name} {parts} x {dim}" for name, (parts, dim) in shapes.items())
            raise ValueError(
                f"task {self.task.name}: the tokens of {total} samples ({told}, of "
                f"{self.num_stores} backbones) take {size / 1e9:.1f} GB, more than half of the "
                f"{free / 1e9:.1f} GB of memory that are free; leave `attentive` out of --also, "
                "probe fewer --representations, or take a machine with more"
            )
        for name, shape in shapes.items():
            self._values[name] = torch.empty(total, *shape)
            self._masks[name] = torch.zeros(total, shape[0], dtype=torch.bool)


def token_modalities(task: Task, representations: Sequence[str]) -> tuple[str, ...]:
    """Modalities of a task whose tokens the representations read, in the canonical order."""
    wanted = {modality for name in representations for modality in modalities_of(name)}
    return tuple(name for name in task.card.modalities if name in wanted)
