"""Changes of a whole batch of clips at once: mixup, resize crop, fader, masks.

All of it is operations on tensors, on the device where the clips lie; what differs from clip to
clip is in tensors too, so that torch.compile makes few kernels of it and never compiles again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from pretrain.views.audio import AudioViewConfig
from pretrain.views.audio_level import change_level
from pretrain.views.audio_masks import mask_log_mel
from pretrain.views.random import Purpose, below, between, happens


@dataclass(frozen=True)
class Spans:
    """A part ``[start, start + size)`` of an axis for each clip; it may reach beyond the axis."""

    start: Int64[Tensor, "view batch"]
    size: Int64[Tensor, "view batch"]


def audio_views(
    waveform: Float[Tensor, "view batch time"],
    draws: Mapping[Purpose, Float64[Tensor, "view batch _"]],
    config: AudioViewConfig,
    log_mel: Callable[[Tensor], Tensor],
) -> Float[Tensor, "view batch mel frame"]:
    """Changes of the waveforms, of the log-mels with their groups, of each log-mel alone.

    Args:
        waveform: The clips of both views.
        draws: Even in [0, 1), as many of each clip as ``config.num_draws`` says.
        config: What is changed, and how much.
        log_mel: Waveforms to log-mels.
    """
    clips = log_mel(change_level(waveform, draws["audio_level"], config.level))
    chances, changes = draws["audio_chance"], draws["audio"]
    if config.mixup_ratio:
        mixed = happens(chances[..., 0], config.mixup_probability)
        ratios = between(changes[..., 0], (0.0, config.mixup_ratio)) * mixed
        shifts = below(changes[..., 1], config.mixup_group)
        clips = mixup(clips, config.mixup_group, ratios.to(clips.dtype), shifts)
    num_mels, num_frames = clips.shape[-2:]
    cropped = resize_crop(
        clips,
        draw_spans(num_mels, config.resize_frequency, changes[..., 2:4]),
        draw_spans(num_frames, config.resize_time, changes[..., 4:6]),
    )
    clips = _where(happens(chances[..., 1], config.resize_probability), cropped, clips)
    ends = between(changes[..., 6:], (-config.fader_nepers, config.fader_nepers))
    faded = fade(clips, ends.to(clips.dtype))
    clips = _where(happens(chances[..., 2], config.fader_probability), faded, clips)
    return mask_log_mel(clips, draws["audio_masks"], config.masks)


def mixup(
    log_mel: Float[Tensor, "view batch mel frame"],
    group: int,
    ratios: Float[Tensor, "view batch"],
    shifts: Int64[Tensor, "view batch"],
) -> Float[Tensor, "view batch mel frame"]:
    """``log((1 - r) exp(a) + r exp(b))`` with a partner b from a's own group and view.

    BYOL-A draws b from a queue of past inputs; a queue depends on the worker and on where a run
    was resumed, a group of slots does not.

    Args:
        log_mel: Clips, the rows of a group consecutive.
        group: Rows per group; divides the batch.
        ratios: r of each clip, in [0, 1); at 0 it stays as it is.
        shifts: Each clip's partner lies so many rows on, in its group, in [0, group).
    """
    rows = torch.arange(log_mel.shape[1], device=log_mel.device)
    partners = rows - rows % group + (rows % group + shifts) % group  # [view, batch]
    others = torch.take_along_dim(log_mel, partners[..., None, None], dim=1)
    r = ratios[..., None, None]
    # logaddexp is exact where one of the two is silence; log(0) of a ratio of 0 is -inf.
    return torch.logaddexp(log_mel + torch.log1p(-r), others + torch.log(r))


def draw_spans(
    length: int, share: tuple[float, float], draws: Float64[Tensor, "view batch 2"]
) -> Spans:
    """Parts that cover a random share of ``length``, or are covered by it, anywhere."""
    size = torch.round(length * between(draws[..., 0], share)).long().clamp(min=1)
    offset = below(draws[..., 1], (length - size).abs() + 1)
    return Spans(start=torch.where(size <= length, offset, -offset), size=size)


def resize_crop(
    log_mel: Float[Tensor, "view batch mel frame"], bands: Spans, frames: Spans
) -> Float[Tensor, "view batch mel frame"]:
    """Each clip's part of bands and frames, bilinearly back to the full size.

    What a part has outside the clip is filled with the clip's mean. The same as cutting the part
    and ``interpolate(mode="bilinear")``.
    """
    mean = log_mel.mean((-2, -1), keepdim=True)
    return _stretch(_stretch(log_mel, bands, -2, mean), frames, -1, mean)


def fade(
    log_mel: Float[Tensor, "view batch mel frame"], ends: Float[Tensor, "view batch 2"]
) -> Float[Tensor, "view batch mel frame"]:
    """A gain, in nats, that goes in a straight line from the first frame's to the last one's."""
    frames = log_mel.shape[-1]
    steps = torch.arange(frames, device=log_mel.device, dtype=log_mel.dtype)
    way = steps / max(1, frames - 1)
    gain = torch.lerp(ends[..., :1], ends[..., 1:], way)  # [view, batch, frame]
    return log_mel + gain[..., None, :]


def _stretch(
    values: Float[Tensor, "view batch mel frame"],
    part: Spans,
    axis: int,
    filling: Float[Tensor, "view batch 1 1"],
) -> Float[Tensor, "view batch mel frame"]:
    """The part of an axis stretched over all of it."""
    length = values.shape[axis]
    start, size = part.start[..., None], part.size[..., None]
    middles = torch.arange(length, device=values.device, dtype=values.dtype) + 0.5
    position = (middles * (size.to(values.dtype) / length) - 0.5).clamp(min=0.0)
    lower = position.floor().long()  # [view, batch, place]
    share = _along(position - lower, axis)
    below_it = _taken(values, start + lower, axis, filling)
    above_it = _taken(values, start + torch.minimum(lower + 1, size - 1), axis, filling)
    return (1.0 - share) * below_it + share * above_it


def _taken(
    values: Float[Tensor, "view batch mel frame"],
    places: Int64[Tensor, "view batch place"],
    axis: int,
    filling: Float[Tensor, "view batch 1 1"],
) -> Float[Tensor, "view batch mel frame"]:
    """Values at each clip's own places of an axis; the filling where there are none."""
    inside = (places >= 0) & (places < values.shape[axis])
    index = _along(places.clamp(0, values.shape[axis] - 1), axis)
    return torch.where(_along(inside, axis), torch.take_along_dim(values, index, axis), filling)


def _along(values: Tensor, axis: int) -> Tensor:
    """One number for each place of an axis, the same for all places of the other."""
    return values[..., :, None] if axis == -2 else values[..., None, :]


def _where(
    chosen: Bool[Tensor, "view batch"],
    changed: Float[Tensor, "view batch mel frame"],
    plain: Float[Tensor, "view batch mel frame"],
) -> Float[Tensor, "view batch mel frame"]:
    return torch.where(chosen[..., None, None], changed, plain)
