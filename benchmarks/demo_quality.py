"""Does pretraining help on the demo's probe? Reads a demo's report, prints and records it.

    triptych demo --out demo-run
    python benchmarks/demo_quality.py demo-run --check

``--check`` exits with 1 unless the pretrained backbone beats the random-initialised one of the
same architecture (95 % interval of the paired difference over ten group-wise splits above zero)
for the fused representation and for at least one modality alone.
"""

import argparse
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eval.probes.probe_report import ProbeReport, format_table, report_from_json
from eval.records import read_json

RESULT = Path(__file__).parent / "results" / "demo_quality.json"


def newest_report(demo: Path) -> ProbeReport:
    """The report of the demo's last checkpoint."""
    paths = sorted((demo / "run" / "probes").glob("step-*/sample-topics.json"))
    if not paths:
        raise SystemExit(f"{demo}: no probe report; run triptych demo --out {demo} first")
    return report_from_json(read_json(paths[-1]))


def summary(report: ProbeReport) -> dict[str, Any]:
    """What README's table says, as JSON."""
    metric = report.task["metric"]
    rows = {}
    for name, part in report.subsets.items():
        difference = part.versus_random.difference
        assert difference.interval is not None
        rows[name] = {
            "majority": part.floors["majority"].metrics[metric].mean,
            "shuffled": part.floors["shuffled"].metrics[metric].mean,
            "random": part.floors["random"].metrics[metric].mean,
            "pretrained": part.pretrained.metrics[metric].mean,
            "difference": difference.mean,
            "interval": [difference.interval.low, difference.interval.high],
            "beats": part.versus_random.beats,
        }
    packages = ("torch", "deepspeed", "transformers", "scikit-learn")
    return {
        "metric": metric,
        "step": report.checkpoint["step"],
        "subsets": rows,
        "versions": {name: version(name) for name in packages}
        | {"python": platform.python_version()},
    }


def passes(rows: dict[str, Any]) -> bool:
    """The stated target."""
    alone = [name for name in rows if name not in ("fused", "late") and rows[name]["beats"]]
    return bool(rows["fused"]["beats"] and alone)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("demo", type=Path, help="folder made by triptych demo")
    parser.add_argument("--check", action="store_true", help="exit 1 where the target is missed")
    options = parser.parse_args()
    report = newest_report(options.demo)
    result = summary(report)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(format_table(report))
    print(f"target {'met' if passes(result['subsets']) else 'missed'}; {RESULT}")
    if options.check and not passes(result["subsets"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
