"""How the tables on the data of `quality.py` begin and end: options, shards, what is shown."""

import argparse
from pathlib import Path

from quality import REPOSITORY
from quality_probe import chapter
from quality_readme import write_between
from quality_recipe import VOCAB_SIZE
from quality_tasks import Prepared, prepare


def table_options(about: str | None, steps: int, steps_help: str) -> argparse.ArgumentParser:
    """``--data``, ``--out``, ``--steps`` and ``--write-readme``; more may be added.

    Args:
        about: What the script does.
        steps: Of pretraining, where none are given.
        steps_help: What they are.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "quality-run")
    parser.add_argument("--steps", type=int, default=steps, help=steps_help)
    parser.add_argument("--write-readme", action="store_true", help="put what is told into README")
    return parser


def prepare_shards(options: argparse.Namespace) -> Prepared:
    """Shards and tasks of `quality.py`, made once in ``--out``."""
    with chapter("shards and tasks"):
        return prepare(options.data, options.out, VOCAB_SIZE)


def show(text: str, target: Path, name: str | None) -> None:
    """Print what was measured and where it lies, and put it into README under a name."""
    print(f"\n{text}\n\n{target}")
    if name is not None:
        write_between(REPOSITORY / "README.md", name, text)
