"""What the kernels become for three generations of GPU, compiled here without one.

    python benchmarks/kernels_compiled.py --check

Of each kernel, at the sizes it is used at: registers a thread, bytes spilled, and how many loads
from global memory are 16 bytes wide. ``--check`` exits with 1 where registers are above their
limit, something is spilled, or there are fewer wide loads than its blocks need. The numbers are the
compiler's, and the same on every machine with the same triton.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import triton
from interleaved import RESULTS, versions
from kernels_builds import BUILDS, Build
from triton.backends.compiler import GPUTarget

CAPABILITIES = (80, 90, 100)
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """What the compiler made of a build for one GPU."""

    registers: int
    spilled_bytes: int
    shared_bytes: int
    wide_loads: int
    wide_stores: int
    loads: int
    cubin_bytes: int


def compiled(build: Build, capability: int) -> Compiled:
    """Compile a build and read its machine code."""
    target = GPUTarget("cuda", capability, 32)
    cubin: bytes = triton.compile(build.source(), target=target, options=build.options).asm["cubin"]
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _cuobjdump("-res-usage", file.name)
        code = _cuobjdump("-sass", file.name)
    numbers = {
        key: int(value) for key, value in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", usage)
    }
    loads = re.findall(r"LDG\.E\S*", code)
    return Compiled(
        registers=numbers["REG"],
        spilled_bytes=numbers["STACK"] + numbers["LOCAL"],
        shared_bytes=numbers["SHARED"],
        wide_loads=sum(".128" in load for load in loads),
        wide_stores=len(re.findall(r"STG\.E\S*\.128", code)),
        loads=len(loads),
        cubin_bytes=len(cubin),
    )


def _cuobjdump(*arguments: str) -> str:
    done = subprocess.run([CUOBJDUMP, *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def faults(build: Build, found: Compiled) -> list[str]:
    """What a build promises and does not keep."""
    wrong = []
    if found.registers > build.most_registers:
        wrong.append(f"{found.registers} registers, more than {build.most_registers}")
    if found.spilled_bytes:
        wrong.append(f"{found.spilled_bytes} bytes spilled")
    if found.wide_loads < build.wide_loads:
        wrong.append(f"{found.wide_loads} loads of 16 bytes, fewer than {build.wide_loads}")
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="exit 1 where a limit is passed")
    parser.add_argument("--out", type=Path, default=RESULTS / "kernels_compiled.json")
    options = parser.parse_args(arguments)
    record: dict[str, Any] = {}
    wrong: list[str] = []
    print(f"{'':<42} {'sm':>4} registers (limit)   spilled   loads of 16 bytes   of all")
    for name, build in BUILDS.items():
        for capability in CAPABILITIES:
            found = compiled(build, capability)
            print(
                f"{name:<42} {capability:>4} {found.registers:>9} ({build.most_registers:>3})"
                f" {found.spilled_bytes:>11} {found.wide_loads:>19} {found.loads:>8}"
            )
            record.setdefault(name, {})[f"sm_{capability}"] = asdict(found)
            wrong += [f"{name}, sm_{capability}: {fault}" for fault in faults(build, found)]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "versions": versions("triton"),
        "kernels": record,
        "most_registers": {name: build.most_registers for name, build in BUILDS.items()},
        "least_wide_loads": {name: build.wide_loads for name, build in BUILDS.items()},
    }
    options.out.write_text(json.dumps(content, indent=1) + "\n")
    print(f"written: {options.out}")
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
