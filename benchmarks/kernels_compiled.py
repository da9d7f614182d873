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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import triton
from interleaved import RESULTS, versions
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from pretrain.kernels import _adamw_triton, _ema_triton, _loss_triton
from pretrain.kernels.adamw import BLOCK as ADAMW_BLOCK
from pretrain.kernels.ema import BLOCK as EMA_BLOCK
from pretrain.kernels.loss import SCALE_BLOCK

CAPABILITIES = (80, 90, 100)
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


@dataclass(frozen=True, kw_only=True)
class Build:
    """A kernel with the types and constants of one use of it."""

    kernel: Any
    types: dict[str, str]
    constants: dict[str, Any]
    most_registers: int
    """Limit on the registers a thread has, on every GPU."""
    wide_loads: int
    """Least number of 16-byte loads."""
    divisible: tuple[str, ...] = field(default=())
    """Integers that the uses it stands for divide by 16; pointers always are."""

    def source(self) -> ASTSource:
        """What triton's compiler takes."""
        names = list(self.kernel.arg_names)
        signature = {name: self.types.get(name, "constexpr") for name in names}
        aligned = [n for n in names if signature[n].startswith("*") or n in self.divisible]
        return ASTSource(
            fn=self.kernel,
            signature=signature,
            constexprs={(names.index(name),): value for name, value in self.constants.items()},
            attrs={(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
        )


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


def ema(online: str, copy: str | None, distance: bool, most_registers: int) -> Build:
    types = {"fp32": _ema_triton.tl.float32, "bf16": _ema_triton.tl.bfloat16}
    return Build(
        kernel=_ema_triton.ema_kernel,
        types={"tensors": "*i64", "blocks": "*i32", "partials": "*fp32", "weight": "fp32"},
        constants={
            "ONLINE": types[online],
            "COPY": types[copy or "fp32"],
            "HAS_COPY": copy is not None,
            "HAS_DISTANCE": distance,
            "BLOCK": EMA_BLOCK,
        },
        most_registers=most_registers,
        wide_loads=EMA_BLOCK // 128 * (4 + (4 if online == "fp32" else 2)) // 16,
    )


def adamw(gradient: str, copies: bool, most_registers: int) -> Build:
    pointers = ("parameters", "means", "squares", "targets")
    floats = ("keep", "step_size", "mean_weight", "beta2", "root_scale", "eps", "ema_weight")
    return Build(
        kernel=_adamw_triton.adamw_ema_kernel,
        types=dict.fromkeys(pointers, "*fp32")
        | dict.fromkeys(("parameter_copies", "target_copies"), "*bf16" if copies else "*fp32")
        | {"gradients": f"*{gradient}", "numel": "i32"}
        | dict.fromkeys(floats, "fp32"),
        constants={
            "HAS_PARAMETER_COPY": copies,
            "HAS_TARGET": True,
            "HAS_TARGET_COPY": copies,
            "BLOCK": ADAMW_BLOCK,
        },
        most_registers=most_registers,
        wide_loads=ADAMW_BLOCK // 128 * (16 + (4 if gradient == "fp32" else 2)) // 16,
    )


def loss(dtype: str, embed: int, rows: int, most_registers: int) -> Build:
    floats = ("row_weights", "pair_weights", "partials", "losses", "total")
    rows_of = ("predictions", "projections", "gradient")
    return Build(
        kernel=_loss_triton.loss_kernel,
        types=dict.fromkeys(rows_of, f"*{dtype}")
        | dict.fromkeys(floats, "*fp32")
        | {"finished": "*i32", "num_pairs": "i32", "batch": "i32", "embed": "i32", "eps": "fp32"},
        constants={
            "HAS_GRADIENT": True,
            "HAS_PAIR_WEIGHTS": True,
            "ROWS": rows,
            "EMBED": embed,
            "PAIRS": 16,
            "PARTS": 64,
            "LOOPS": 1,
        },
        most_registers=most_registers,
        wide_loads=4,
        divisible=("embed",),
    )


def scale(dtype: str, most_registers: int) -> Build:
    return Build(
        kernel=_loss_triton.scale_kernel,
        types={"gradient": f"*{dtype}", "scales": "*fp32", "scale_stride": "i32", "numel": "i32"},
        constants={"BLOCK": SCALE_BLOCK},
        most_registers=most_registers,
        wide_loads=1,
        divisible=("numel",),
    )


BUILDS = {
    "EMA fp32": ema("fp32", None, False, 112),
    "EMA fp32, bf16 copy": ema("fp32", "bf16", False, 96),
    "EMA of bf16, bf16 copy": ema("bf16", "bf16", False, 96),
    "EMA fp32, bf16 copy, distance": ema("fp32", "bf16", True, 96),
    "AdamW + EMA fp32": adamw("fp32", False, 64),
    "AdamW + EMA, bf16 copies": adamw("fp32", True, 64),
    "AdamW + EMA, bf16 gradients and copies": adamw("bf16", True, 64),
    "loss fp32, 128 wide": loss("fp32", 128, 8, 72),
    "loss bf16, 256 wide": loss("bf16", 256, 4, 72),
    "loss backward bf16": scale("bf16", 40),
}


def compiled(build: Build, capability: int) -> Compiled:
    """Compile a build and read its machine code."""
    cubin: bytes = triton.compile(build.source(), target=GPUTarget("cuda", capability, 32)).asm[
        "cubin"
    ]
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
    limits = {name: build.most_registers for name, build in BUILDS.items()}
    content = {"versions": versions("triton"), "kernels": record, "most_registers": limits}
    options.out.write_text(json.dumps(content, indent=1) + "\n")
    print(f"written: {options.out}")
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
