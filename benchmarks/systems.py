"""The recipes `system1` ... `system5`, each trained and probed on real data, in one table.

    python benchmarks/systems.py --write-readme          # an hour and a half; killed, it goes on

Trains every recipe as it stands, but for its length and its shards: those of
`benchmarks/quality.py`, whose folder may be shared (``--out``), and its eight rows. Each system
is compared with a randomly initialised backbone of its own architecture on the same splits; the
systems differ in size, so a row does not rank them.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from interleaved import RESULTS, versions
from quality_arms import Trained, train
from quality_extras import RETRIEVAL_TASKS, retrieval_directions
from quality_options import prepare_shards, show, table_options
from quality_probe import RANDOM, Probing, chapter, probe_random, probe_trained, table_question
from quality_table import line
from quality_tasks import PLANS, TABLE_ROWS, Prepared

from eval.probes.arm_comparison import ArmComparison, compare_arms
from eval.records import write_json
from launch.recipes import RECIPES
from launch.run_config import RunConfig
from pretrain.models import Backbone

SYSTEMS = ("system1", "system2", "system3", "system4", "system5")
RESULT = RESULTS / "systems.json"


@dataclass(frozen=True, kw_only=True)
class SystemRow:
    """One system on one row of the table."""

    random: float
    """Macro-F1 in percent, mean over splits."""
    pretrained: float
    comparison: ArmComparison


@dataclass(frozen=True, kw_only=True)
class SystemColumn:
    """What one system scored."""

    parts: str
    parameters: int
    rows: Mapping[str, SystemRow]
    """By the names of `quality_tasks.TABLE_ROWS`."""
    recall: Mapping[str, Mapping[str, float]]
    """By retrieval task: recall@10 in percent, mean over directions: random, pretrained, chance."""


def system_run(name: str, blend: Path, run: Path, steps: int) -> RunConfig:
    """The recipe on these shards, this long."""
    recipe = RECIPES[name]()
    return replace(
        recipe,
        run=run,
        pretrain=replace(
            recipe.pretrain,
            data=replace(recipe.pretrain.data, shards=str(blend)),
            total_steps=steps,
            checkpoint_every_steps=max(1, steps // 4),
            # A system that does badly is a column of the table, not a reason to stop.
            health=replace(recipe.pretrain.health, on_collapse="warn"),
        ),
    )


def measure(name: str, prepared: Prepared, out: Path, options: argparse.Namespace) -> SystemColumn:
    """Train and probe one system, or find what was done of it."""
    trained = Trained(arm=name, seed=0, run=(out / "runs" / name).absolute())
    config = system_run(name, prepared.blend.absolute(), trained.run, options.steps)
    with chapter(f"pretrain {name}"):
        train(config)
    rows: dict[str, SystemRow] = {}
    for task, plan in PLANS.items():
        with chapter(f"probe {name} on {task}"):
            question = table_question(
                task, prepared, Probing(splits=options.splits), out / "systems" / name
            )
            start = probe_random(question, trained.backbone, 1)[f"{RANDOM}-0"]
            end = probe_trained(question, [trained])[trained.name]
        for row, subset in plan.rows.items():
            before, after = start.scores[subset], end.scores[subset]
            rows[row] = SystemRow(
                random=100.0 * sum(before) / len(before),
                pretrained=100.0 * sum(after) / len(after),
                comparison=compare_arms([after], [before], end.test_share[subset]),
            )
    model = config.pretrain.backbone
    parts = (model.text.encoder, model.image.encoder, model.audio.encoder, model.fusion.fusion)
    return SystemColumn(
        parts=", ".join((*parts, config.pretrain.objective)).replace("_", " "),
        parameters=sum(part.numel() for part in Backbone.load(trained.backbone).parameters()),
        rows=rows,
        recall={
            task: _recall(prepared.tasks[task], trained.backbone, out / "systems" / name)
            for task in RETRIEVAL_TASKS
        },
    )


def _recall(task: Path, backbone: Path, folder: Path) -> dict[str, float]:
    found = {
        arm: retrieval_directions(task, backbone, arm, folder) for arm in (RANDOM, "pretrained")
    }
    means = {arm: _mean(directions, "value") for arm, directions in found.items()}
    return {**means, "chance": _mean(found[RANDOM], "chance")}


def _mean(directions: Mapping[str, Any], what: str) -> float:
    values = [direction["recall"]["10"][what] for direction in directions.values()]
    return 100.0 * sum(values) / len(values)


def markdown(columns: Mapping[str, SystemColumn]) -> str:
    """The table: random -> pretrained, bold where pretraining beats the random weights."""
    lines = [line(("macro-F1, %", *columns)), line(["---"] * (1 + len(columns)))]
    lines.append(line(("parts", *(column.parts for column in columns.values()))))
    lines.append(
        line(("parameters", *(f"{column.parameters / 1e6:.1f} M" for column in columns.values())))
    )
    for row in TABLE_ROWS:
        lines.append(line((row, *(_cell(column.rows[row]) for column in columns.values()))))
    for task in RETRIEVAL_TASKS:
        recalls = [column.recall[task] for column in columns.values()]
        cells = [f"{found[RANDOM]:.1f} → {found['pretrained']:.1f}" for found in recalls]
        name = f"{task}, recall@10, chance {recalls[0]['chance']:.1f}"
        lines.append(line((name, *cells)))
    return "\n".join(lines)


def _cell(row: SystemRow) -> str:
    text = f"{row.random:.1f} → {row.pretrained:.1f}"
    return f"**{text}**" if row.comparison.beats else text


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = table_options(__doc__, 400, "optimizer steps of 128 samples")
    parser.add_argument("--splits", type=int, default=10, help="under ten give no verdict")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    prepared = prepare_shards(options)
    columns = {name: measure(name, prepared, options.out, options) for name in options.systems}
    write_json(
        RESULT,
        {
            "metric": "macro-F1 in percent",
            "systems": {name: asdict(column) for name, column in columns.items()},
            "steps": options.steps,
            "splits": options.splits,
            "versions": versions("torch", "deepspeed", "transformers", "scikit-learn"),
        },
    )
    show(markdown(columns), RESULT, "systems" if options.write_readme else None)


if __name__ == "__main__":
    main()
