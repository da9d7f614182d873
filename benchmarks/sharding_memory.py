"""Peak memory of `triptych shard` over a small and a large corpus of the same kind of rows.

Synthetic text rows of about 120 characters, every tenth nearly that of an earlier row. The command
runs as users run it, with its own processes; each one's peak (VmHWM) is read while it lives, and
the largest of the driver's and of the workers' are printed. A corpus ten times as large must not
need more than 10 % more in either.

    python benchmarks/sharding_memory.py [--rows 100000 1000000] [--workers 2] [--check]
"""

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from interleaved import RESULTS, exit_code, versions

from data_sharding.duplicates import SIGNATURE

MOST_GROWTH = 1.10
LOOK_SECONDS = 0.05
WORDS = [f"{a}{b}" for a in ("ka", "lo", "mi", "tu", "re") for b in ("nd", "st", "rr", "vel", "po")]
LAUNCH = "from launch.shard_command import shard_command; import sys; shard_command(sys.argv[1:])"


def write_rows(path: Path, count: int) -> None:
    """A JSONL corpus; row n of any size is the same."""
    rng = random.Random(0)
    recent: list[str] = []
    with path.open("w") as file:
        for number in range(count):
            text = f"{number:09d} " + " ".join(rng.choices(WORDS, k=22))
            if number % 10 == 9:
                text = recent[rng.randrange(len(recent))] + " again"
            recent = [*recent[-99:], text]
            file.write(json.dumps({"id": str(number), "text": text}) + "\n")


def measure(corpus: Path, out: Path, workers: int) -> dict[str, float]:
    """Peaks in MiB and seconds of one run."""
    command = [sys.executable, "-c", LAUNCH, str(corpus), str(out), "--workers", str(workers)]
    command += ["--splits", "train", "0.98", "validation", "0.02"]
    began = time.monotonic()
    driver = subprocess.Popen(command)
    peaks: dict[int, int] = {}
    while driver.poll() is None:
        for pid in descendants(driver.pid):
            peaks[pid] = max(peaks.get(pid, 0), peak_kib(pid))
        time.sleep(LOOK_SECONDS)
    if driver.returncode:
        raise SystemExit(f"triptych shard failed on {corpus}")
    own = peaks.pop(driver.pid)
    return {
        "driver_mib": own / 1024,
        "worker_mib": max(peaks.values(), default=0) / 1024,
        "seconds": time.monotonic() - began,
    }


def descendants(root: int) -> list[int]:
    """A process and all that it and its children started."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def peak_kib(pid: int) -> int:
    """VmHWM of a process, 0 where it has ended."""
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) if found else 0
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs=2, default=[100_000, 1_000_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "sharding_memory.json")
    parser.add_argument("--check", action="store_true", help="exit 1 where memory grows")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    runs: dict[int, dict[str, float]] = {}
    try:
        for rows in given.rows:
            write_rows(folder / f"{rows}.jsonl", rows)
            runs[rows] = measure(folder / f"{rows}.jsonl", folder / str(rows), given.workers)
            shown = ", ".join(f"{name} {value:.1f}" for name, value in runs[rows].items())
            print(f"{rows} rows: {shown}", flush=True)
    finally:
        shutil.rmtree(folder)
    small, large = runs.values()
    growth = {
        name: large[name] / small[name] for name in ("driver_mib", "worker_mib") if small[name]
    }
    met = all(value <= MOST_GROWTH for value in growth.values())
    print("growth: " + ", ".join(f"{name} {value:.3f}" for name, value in growth.items()))
    print(f"signatures: {SIGNATURE.itemsize} bytes a row; target at most {MOST_GROWTH:g}: {met}")
    record = {
        "versions": versions("numpy", "datasketch"),
        "runs": {str(rows): run for rows, run in runs.items()},
        "growth": growth,
        "most_growth": MOST_GROWTH,
        "signature_bytes_per_row": SIGNATURE.itemsize,
        "met": met,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(record, indent=1) + "\n")
    return exit_code(met, given.check)


if __name__ == "__main__":
    sys.exit(main())
