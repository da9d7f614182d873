"""Named runs: functions whose docstring says what they cost and what to expect.

A recipe returns a RunConfig; every field can be overridden on the command line.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from launch.recipes.base import base
from launch.recipes.demo import demo
from launch.recipes.large import large
from launch.recipes.systems import system1, system2, system3, system4, system5
from launch.run_config import RunConfig

RECIPES: dict[str, Callable[[], RunConfig]] = {
    recipe.__name__: recipe
    for recipe in (base, large, demo, system1, system2, system3, system4, system5)
}


@dataclass(frozen=True)
class RecipeHelp:
    """A recipe's name and the first line of its docstring."""

    name: str
    summary: str


def list_recipes() -> list[RecipeHelp]:
    """Every recipe with one line about it."""
    return [
        RecipeHelp(name, (function.__doc__ or "").strip().splitlines()[0])
        for name, function in RECIPES.items()
    ]


def find_recipe(name: str) -> RunConfig:
    """The run that a recipe describes.

    Raises:
        ValueError: no recipe has this name; the nearest and all names are given.
    """
    if name in RECIPES:
        return RECIPES[name]()
    if Path(name).suffix == ".json":
        raise ValueError(f"{name} is a file: give a resolved run as --config {name}")
    close = difflib.get_close_matches(name, RECIPES, n=1)
    hint = f" did you mean {close[0]}?" if close else ""
    raise ValueError(f"no recipe is named {name!r};{hint} there are: {', '.join(RECIPES)}")
