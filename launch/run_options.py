"""The run that a command's first words name: a recipe, or a stored configuration."""

import logging
from dataclasses import replace
from pathlib import Path

from launch.recipes import find_recipe, list_recipes
from launch.run_config import RunConfig, load_run_config

logger = logging.getLogger(__name__)


def default_run(arguments: list[str], command: str) -> tuple[RunConfig, list[str]]:
    """The recipe, or the file after ``--config``, and the other arguments.

    Args:
        arguments: Words after the command.
        command: Its name, for the message.

    Raises:
        ValueError: neither is given, or it is none.
    """
    if arguments and not arguments[0].startswith("-"):
        return find_recipe(arguments[0]), arguments[1:]
    if "--config" in arguments[:-1]:
        at = arguments.index("--config")
        default = _without_allowance(load_run_config(Path(arguments[at + 1])))
        return default, arguments[:at] + arguments[at + 2 :]
    if {"-h", "--help"} & set(arguments):
        return find_recipe("base"), arguments
    raise ValueError(
        f"give a recipe or --config run/config.json: {command} "
        f"{{{','.join(recipe.name for recipe in list_recipes())}}}"
    )


def _without_allowance(config: RunConfig) -> RunConfig:
    """What one resume was allowed, and its requeued jobs with it, is not allowed to the next."""
    if config.allow_drift:
        logger.warning(
            "%s: --allow-drift %s was given for an earlier start and holds no longer",
            config.run, " ".join(config.allow_drift),
        )  # fmt: skip
    return replace(config, allow_drift=())
