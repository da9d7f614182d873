"""Probe reports made by hand: their scores are given, split by split."""

from eval.comparison import Comparison, Interval, Summary, summarise
from eval.probes.probe_report import ProbeReport, ProbeScores, SubsetReport
from eval.records import write_json
from pretrain.checkpoint import Marker, Progress, open_checkpoint

BASE = (0.50, 0.52, 0.48, 0.55, 0.45, 0.51, 0.49, 0.53, 0.47, 0.50)
NOISE = (0.01, -0.01) * 5
SIZES = {"train": 50, "validation": 20, "test": 30}
SHARE = 30 / 70
DIGEST = "ab" * 32


def scores(summary, metric, confusion=()):
    return ProbeScores(
        metrics={metric: summary},
        confusion=confusion,
        inverse_regularisation=(1.0,) * len(summary.per_split),
        num_unconverged_fits=0,
        validation_macro_f1=summary.per_split,
    )


def subset(name, values, metric="macro_f1", interval=None, beats=False, sizes=SIZES):
    """A representation whose pretrained scores are ``values``; its floors are 0.1, 0.2 and 0.3."""
    own = summarise(values, SHARE)
    if interval is not None:
        own = Summary(
            mean=own.mean,
            sd=own.sd,
            interval=Interval(low=interval[0], high=interval[1]),
            interval_uncorrected=None,
            per_split=own.per_split,
        )
    floors = {"majority": 0.1, "shuffled": 0.2, "random": 0.3}
    return SubsetReport(
        subset=name,
        dim=4,
        num_samples=100,
        num_groups=100,
        split_sizes=(sizes,) * len(values),
        classes_absent_from_test=((),) * len(values),
        pretrained=scores(own, metric, ((6, 2), (1, 3))),
        floors={
            floor: scores(summarise([value] * len(values), SHARE), metric)
            for floor, value in floors.items()
        },
        random_seeds={"0": 0.3},
        versus_random=Comparison(
            difference=summarise([value - 0.3 for value in values], SHARE),
            beats=beats,
            reason="by hand" if beats is not None else "no verdict: 3 different training draws",
        ),
    )


def report(subsets, task=None, protocol=None, shards=DIGEST, step=100):
    """Of given representations; the other fields may be changed one by one."""
    return ProbeReport(
        task={
            "name": "mood",
            "metric": "macro_f1",
            "classes": ["glad", "sad"],
            "split_rule": "groups",
            "source": "made up",
            "licence": "cc0-1.0",
        }
        | (task or {}),
        checkpoint={
            "name": f"step-{step:08d}",
            "step": step,
            "samples_consumed": 64 * step,
            "digest": DIGEST,
        },
        shards={"digest": shards, "num_samples": 100, "num_groups": 100},
        protocol={
            "splits": {"num_splits": len(subsets[0].split_sizes)},
            "linear": {"max_iterations": 500},
            "num_random_backbones": 3,
            "selection": "validation",
            "standardisation": "the training part",
            "interval": "corrected",
            "random_floor": "averaged",
            "late": "even vote",
        }
        | (protocol or {}),
        subsets={part.subset: part for part in subsets},
        missing={},
    )


def shifted(by):
    """Scores of ten splits that differ from `BASE` by this much, and by `NOISE`."""
    return [base + by + noise for base, noise in zip(BASE, NOISE, strict=True)]


def write_run(folder, *reports, config=None):
    """A run folder with a configuration and these reports."""
    write_json(folder / "config.json", {"run": str(folder)} | (config or {}))
    for found in reports:
        name = f"{found.task['name']}.json"
        write_json(folder / "probes" / found.checkpoint["name"] / name, found.to_json())
    return folder


def whole_checkpoint(run, step):
    """A checkpoint of nothing but its marker; returns its digest."""
    folder = run / "checkpoints" / f"step-{step:08d}"
    folder.mkdir(parents=True)
    marker = Marker(progress=Progress(step, step), world_size=1, versions={}, files={})
    (folder / "COMPLETE").write_text(marker.to_text())
    return open_checkpoint(folder).digest
