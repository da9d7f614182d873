"""Names of tars: one tar, a folder of tars, or a pattern in braces -> a sorted list.

``{000..010}`` counts and ``{a,b}`` lists, as in WebDataset and in a shell. A name is a location and
nothing else: no command, no chained URL and no environment variable.
"""

import re
from collections.abc import Iterator

from data_sharding.storage import exists, is_folder, is_remote, join, list_files

BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d{1,12})\.\.(\d{1,12})")
MAX_TARS = 1_000_000


def expand_braces(pattern: str) -> list[str]:
    """Every name that a pattern stands for, in the order of the pattern.

    Raises:
        ValueError: A brace without its partner, an empty or falling range, a ``pipe:`` command, or
            over a million names.
    """
    is_remote(pattern)
    names = [""]
    position = 0
    for braces in BRACES.finditer(pattern):
        choices = _choices(braces.group(1), pattern)
        literal = pattern[position : braces.start()]
        if len(names) * len(choices) > MAX_TARS:
            raise ValueError(f"{pattern!r} stands for more than {MAX_TARS} names")
        names = [name + literal + choice for name in names for choice in choices]
        position = braces.end()
    rest = pattern[position:]
    if any(mark in BRACES.sub("", pattern) for mark in "{}"):
        raise ValueError(f"{pattern!r}: a brace without its partner, or braces within braces")
    return [name + rest for name in names]


def list_tars(location: str) -> list[str]:
    """The tars that a location stands for.

    Args:
        location: A tar, a folder whose tars are taken in the order of their names (those of its
            subfolders included), or a pattern such as ``s3://bucket/laion-{000..127}.tar``.

    Raises:
        ValueError: There is none, one of the pattern is missing, or it is no tar.
    """
    if "{" in location or "}" in location:
        tars = expand_braces(location)
        missing = next((tar for tar in tars if not exists(tar)), None)
        if missing is not None:
            raise ValueError(f"{location} stands for {len(tars)} tars, but {missing} is missing")
        return list(_refuse_others(tars))
    if location.lower().endswith(".tar") and not is_folder(location):
        if not exists(location):
            raise ValueError(f"{location}: no such tar")
        return [location]
    if not is_folder(location):
        raise ValueError(f"{location}: no tar and no folder of tars")
    tars = [join(location, name) for name in list_files(location, (".tar",))]
    if not tars:
        raise ValueError(f"{location} holds no .tar")
    return tars


def _choices(inside: str, pattern: str) -> list[str]:
    """``000..010`` -> eleven numbers, as wide as the first; ``a,b`` -> two texts."""
    numbers = RANGE.fullmatch(inside)
    if numbers is None:
        if "," not in inside:
            raise ValueError(f"{pattern!r}: {{{inside}}} is no range (000..010) and no list (a,b)")
        return inside.split(",")
    first, last = int(numbers.group(1)), int(numbers.group(2))
    if not 0 <= last - first < MAX_TARS:
        raise ValueError(f"{pattern!r}: {{{inside}}} must rise, by less than {MAX_TARS}")
    texts = numbers.groups()
    padded = any(len(text) > 1 and text.startswith("0") for text in texts)
    width = max(map(len, texts)) if padded else 0
    return [f"{number:0{width}d}" for number in range(first, last + 1)]


def _refuse_others(tars: list[str]) -> Iterator[str]:
    for tar in tars:
        if not tar.lower().endswith(".tar"):
            raise ValueError(f"{tar} is no .tar; compressed tars cannot be read by position")
        yield tar
