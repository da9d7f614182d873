"""White noise of a batch of clips: each has its own key, and so its own noise on any device."""

import math

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
BLOCK = 4
"""Numbers that one counter gives."""

LOW = 0xFFFFFFFF


def white_noise(
    keys: Int64[Tensor, "view batch 2"], length: int
) -> Float32[Tensor, "view batch length"]:
    """Standard normal numbers, a function of the key and the place alone (Box and Muller 1958).

    Args:
        keys: Two words of 32 bits for each clip.
        length: Numbers for each clip.
    """
    counters = torch.arange(-(-length // BLOCK), device=keys.device)
    zeros = torch.zeros_like(counters)
    words = philox((counters, zeros, zeros, zeros), (keys[..., :1], keys[..., 1:]))
    # 24 bits, half a step away from 0.
    even = [((word >> 8).float() + 0.5) * 2.0**-24 for word in words]
    noise = []
    for radius, angle in (even[:2], even[2:]):
        away = torch.sqrt(-2.0 * torch.log(radius))
        turn = 2.0 * math.pi * angle
        noise += [away * torch.cos(turn), away * torch.sin(turn)]
    return torch.stack(noise, dim=-1).flatten(-2)[..., :length]


def philox(
    counter: tuple[Int64[Tensor, "..."], ...], key: tuple[Int64[Tensor, "..."], ...]
) -> tuple[Int64[Tensor, "..."], ...]:
    """Philox4x32-10 (Salmon et al. 2011) by torch's 64-bit integers.

    Args:
        counter: Four words of 32 bits.
        key: Two words of 32 bits; counter and key are broadcast together.

    Returns:
        Four words of 32 bits.
    """
    one, two, three, four = counter
    first, second = key
    for _ in range(ROUNDS):
        # A product of 64 bits may wrap to a negative number; its halves are right all the same.
        left, right = one * MULTIPLIERS[0], three * MULTIPLIERS[1]
        one, two = ((right >> 32) & LOW) ^ two ^ first, right & LOW
        three, four = ((left >> 32) & LOW) ^ four ^ second, left & LOW
        first, second = (first + KEY_STEPS[0]) & LOW, (second + KEY_STEPS[1]) & LOW
    return one, two, three, four
