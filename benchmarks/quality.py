"""Does pretraining help on real data? Trains every arm, probes all alike, prints and records it.

    python benchmarks/quality.py --check --write-readme        # hours; killed, it goes on
    python benchmarks/quality.py --quick                       # under ten minutes; proves nothing

Shards tuxpaint, art4apps and mvsa_single without the pictures, words and tweets that are tested,
trains the same recipe with each objective (`full` three times), and probes eight rows: tuxpaint
topics by picture, art4apps categories by picture, text and sound, emodb emotions of unseen
speakers, mvsa sentiment by text, picture and both. Then retrieval between modalities on unseen
triples, and the probe with each subset of the modalities. Every part has its own folder below
``--out`` and is skipped once it is there.

``--check`` exits with 1 unless `full` beats the random-initialised backbone on five rows: the
95 % interval of the paired difference, over ten group-wise splits and averaged over three
pretraining seeds, lies above zero.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from interleaved import RESULTS, exit_code, versions
from quality_arms import Trained, planned, train_arm
from quality_extras import Extras, measure_extras
from quality_probe import (
    Marks,
    Probing,
    chapter,
    probe_random,
    probe_raw,
    probe_trained,
    table_question,
)
from quality_readme import write_between
from quality_recipe import ARMS, VOCAB_SIZE, Length
from quality_table import FULL, TableRow, table_json, table_markdown, table_row
from quality_tasks import PLANS, TABLE_ROWS, Prepared, prepare

from eval.records import write_json

REPOSITORY = Path(__file__).parent.parent
RESULT = RESULTS / "quality.json"
QUICK = (Length(steps=8, batch=64), Probing(splits=3))
QUICK_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is run."""

    data: Path
    out: Path
    length: Length
    probing: Probing
    seeds: int
    share: float
    """Of the data's clusters."""
    arms: Sequence[str]


def measure(plan: Plan) -> tuple[list[TableRow], Extras]:
    """Everything, in order."""
    with chapter("shards and tasks"):
        prepared = prepare(plan.data, plan.out, VOCAB_SIZE, plan.share)
    runs = list(planned(plan.out, plan.arms, plan.seeds))
    for run in runs:
        with chapter(f"pretrain {run.name}"):
            train_arm(run, prepared.blend, plan.length)
    rows = []
    for task in PLANS:
        with chapter(f"probe {task}"):
            marks = probe_task(task, prepared, runs, plan)
            rows += [table_row(row, subset, marks) for row, subset in PLANS[task].rows.items()]
    with chapter("retrieval and missing modalities"):
        extras = measure_extras(prepared, runs, plan.probing, plan.out)
    order = list(TABLE_ROWS)
    return sorted(rows, key=lambda row: order.index(row.name)), extras


def probe_task(
    task: str, prepared: Prepared, runs: Sequence[Trained], plan: Plan
) -> dict[str, Marks]:
    """Marks of all arms on one task."""
    question = table_question(task, prepared, plan.probing, plan.out)
    like = next(run for run in runs if run.arm == FULL).backbone
    return {
        "raw": probe_raw(question, like),
        **probe_random(question, like, min(plan.seeds, ARMS[FULL].seeds)),
        **probe_trained(question, runs),
    }


def plan_from(options: argparse.Namespace) -> Plan:
    """The options as a plan; ``--quick`` changes what was not given."""
    length, probing = QUICK if options.quick else (Length(), Probing())
    given = {name: getattr(options, name) for name in ("steps", "batch", "ranks")}
    seeds = options.seeds or (1 if options.quick else 3)
    if FULL not in options.arms:
        raise SystemExit(f"--arms needs {FULL}: all others are compared with what it is")
    return Plan(
        data=options.data,
        out=options.out or REPOSITORY / ("quality-run-quick" if options.quick else "quality-run"),
        length=replace(length, **{name: value for name, value in given.items() if value}),
        probing=replace(probing, splits=options.splits or probing.splits),
        seeds=seeds,
        share=QUICK_SHARE if options.quick else 1.0,
        arms=options.arms,
    )


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, help="folder of all parts (default: quality-run)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a quarter of the data, a few steps, one seed, three splits",
    )
    parser.add_argument("--steps", type=int, help="optimizer steps of an arm")
    parser.add_argument("--batch", type=int, help="samples of a step")
    parser.add_argument("--ranks", type=int, help="processes that train one arm")
    parser.add_argument("--seeds", type=int, help="pretraining seeds of full and random, at most 3")
    parser.add_argument("--splits", type=int, help="group-wise splits; under ten give no verdict")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--check", action="store_true", help="exit 1 where the target is missed")
    parser.add_argument("--write-readme", action="store_true", help="put the tables into README")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    plan = plan_from(options)
    rows, extras = measure(plan)
    result = {
        **table_json(rows),
        **extras.to_json(),
        "steps": plan.length.steps,
        "batch": plan.length.batch,
        "splits": plan.probing.splits,
        "versions": versions("torch", "deepspeed", "transformers", "scikit-learn"),
    }
    target = plan.out / "quality.json" if options.quick else RESULT
    write_json(target, result)
    text = f"{table_markdown(rows)}\n\n{extras.markdown()}"
    print(f"\n{text}\n\n{target}")
    if options.write_readme:
        write_between(REPOSITORY / "README.md", "quality", text)
    sys.exit(exit_code(result["met"], options.check))


if __name__ == "__main__":
    main()
