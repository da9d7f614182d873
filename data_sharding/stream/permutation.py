"""A keyed permutation of 0..n-1 that needs no memory: any element of it in constant time."""

from math import isqrt

import numpy as np
from jaxtyping import Int64, UInt64

ROUNDS = 8
"""With 6, permutations of a dozen elements are measurably uneven."""
CHUNK = 1 << 14
"""Numbers that go through all rounds together: they stay in a core's own cache."""

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_HALF = np.uint64(32)


def mix(words: UInt64[np.ndarray, "..."]) -> UInt64[np.ndarray, "..."]:
    """splitmix64's finaliser: 64 bits in, 64 well-mixed bits out (Steele et al. 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


class Permutation:
    """Bijection of 0..size-1, chosen by a key of two integers.

    An alternating Feistel network on the grid ``left x right`` of at least `size` cells, with
    cycle walking for the few cells beyond. Source: Black and Rogaway 2002, "Ciphers with Arbitrary
    Finite Domains", section 5. The grid is the smallest near-square one, so hardly any index walks.
    Both sides are below 2**31, so that a hash is brought into range by a multiplication and a shift
    (Lemire 2019, "Fast Random Integer Generation in an Interval") instead of a division.
    """

    def __init__(self, size: int, key: tuple[int, int]) -> None:
        if not 1 <= size <= 2**60:
            raise ValueError(f"a permutation needs 1 <= size <= 2**60, got {size}")
        self.size = size
        left = isqrt(size - 1) + 1
        self._left, self._right = np.uint64(left), np.uint64(-(-size // left))
        seeds = [
            (key[0] * _GOLDEN + key[1] * 0xD1B54A32D192ED03 + turn * 0x8CB92BA72F3D8DD7) & _MASK
            for turn in range(1, ROUNDS + 1)
        ]
        self._keys = mix(mix(np.array(seeds, dtype=np.uint64)))

    def forward(self, indices: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
        """The element at each position."""
        return self._walk(indices, range(ROUNDS), 1)

    def inverse(self, elements: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
        """The position of each element."""
        return self._walk(elements, range(ROUNDS - 1, -1, -1), -1)

    def _walk(
        self, start: Int64[np.ndarray, "n"], turns: range, sign: int
    ) -> Int64[np.ndarray, "n"]:
        values = start.astype(np.uint64)
        for first in range(0, len(values), CHUNK):
            chunk = values[first : first + CHUNK]
            chunk[:] = self._network(chunk, turns, sign)
            while len(outside := np.flatnonzero(chunk >= self.size)):
                chunk[outside] = self._network(chunk[outside], turns, sign)
        return values.astype(np.int64)

    def _network(
        self, values: UInt64[np.ndarray, "n"], turns: range, sign: int
    ) -> UInt64[np.ndarray, "n"]:
        left = values // self._right
        right = values - left * self._right
        for turn in turns:
            if turn % 2 == 0:
                self._turn(left, right, turn, self._left, sign)
            else:
                self._turn(right, left, turn, self._right, sign)
        return left * self._right + right

    def _turn(
        self,
        half: UInt64[np.ndarray, "n"],
        other: UInt64[np.ndarray, "n"],
        turn: int,
        modulus: np.uint64,
        sign: int,
    ) -> None:
        """Adds (or takes away) a keyed hash of the other half, in place."""
        step = other * np.uint64(_GOLDEN)
        step += self._keys[turn]
        step ^= step >> _HALF
        step *= np.uint64(0xBF58476D1CE4E5B9)
        step >>= _HALF
        step *= modulus
        step >>= _HALF  # uniform in 0..modulus-1
        if sign > 0:
            half += step
        else:
            half += modulus
            half -= step
        # A difference below 0 wraps to a huge number, so that the smaller one is the remainder.
        np.minimum(half, half - modulus, out=half)
