"""The kernels with the types and constants of their uses, for `kernels_compiled`."""

from dataclasses import dataclass, field
from typing import Any

import torch
from triton.compiler import ASTSource

from pretrain.kernels import (
    _adamw_triton,
    _ema_triton,
    _lars_triton,
    _loss_triton,
    _photometric_triton,
    lars,
    photometric,
)
from pretrain.kernels.adamw import BLOCK as ADAMW_BLOCK
from pretrain.kernels.ema import BLOCK as EMA_BLOCK
from pretrain.kernels.loss import SCALE_BLOCK


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
    options: dict[str, int] = field(default_factory=dict)
    """Of the launch: warps and stages, where they are not triton's own."""

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


def ema(online: str, copy: str | None, distance: bool, most_registers: int) -> Build:
    types = {"fp32": _ema_triton.tl.float32, "bf16": _ema_triton.tl.bfloat16}
    return Build(
        kernel=_ema_triton.ema_kernel,
        types={"tensors": "*i64", "blocks": "*i32", "partials": "*fp32", "weight": "*fp32"},
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
    floats = ("mean_weight", "beta2", "eps")
    return Build(
        kernel=_adamw_triton.adamw_ema_kernel,
        types=dict.fromkeys(pointers, "*fp32")
        | dict.fromkeys(("parameter_copies", "target_copies"), "*bf16" if copies else "*fp32")
        | {"gradients": f"*{gradient}", "numbers": "*fp32", "numel": "i32"}
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


def norms(gradient: str, most_registers: int) -> Build:
    types = {"fp32": _lars_triton.tl.float32, "bf16": _lars_triton.tl.bfloat16}
    return Build(
        kernel=_lars_triton.norms_kernel,
        types={"tensors": "*i64", "parts": "*i32", "partials": "*fp32"},
        constants={"GRADIENT": types[gradient], "PART": lars.PART, "BLOCK": lars.NORMS_BLOCK},
        most_registers=most_registers,
        wide_loads=lars.NORMS_BLOCK // 128 * (4 + (4 if gradient == "fp32" else 2)) // 16,
    )


def lars_step(gradient: str, ema: bool, most_registers: int) -> Build:
    types = {"fp32": _lars_triton.tl.float32, "bf16": _lars_triton.tl.bfloat16}
    floats = ("momentum", "coefficient")
    flags = dict.fromkeys(("HAS_PARAMETER_COPY", "HAS_TARGET", "HAS_TARGET_COPY"), ema)
    width = 8 + (4 if gradient == "fp32" else 2) + (4 if ema else 0)
    return Build(
        kernel=_lars_triton.lars_kernel,
        types={"tensors": "*i64", "blocks": "*i32", "starts": "*i32"}
        | dict.fromkeys(("partials", "numbers"), "*fp32")
        | dict.fromkeys(floats, "fp32"),
        constants={
            "GRADIENT": types[gradient],
            "COPY": types["bf16" if ema else "fp32"],
            "ADAPTS": True,
            **flags,
            "PARTS": lars.SUMMED_PARTS,
            "BLOCK": lars.BLOCK,
        },
        most_registers=most_registers,
        wide_loads=lars.BLOCK // 128 * width // 16,
    )


PLACES = dict.fromkeys(("batch", "view_stride", "batch_stride", "num_parts"), "i32")
SIZES = ("view_stride", "batch_stride", "plane", "height", "width")
"""Of pictures whose side divides by 16."""


def mean(most_registers: int) -> Build:
    return Build(
        kernel=_photometric_triton.mean_kernel,
        types={"images": "*u8", "changes": "*fp32", "partials": "*fp32", "plane": "i32"} | PLACES,
        constants={"CHANGES": len(photometric.CHANGES), "BLOCK": photometric.MEAN_BLOCK},
        most_registers=most_registers,
        wide_loads=3 * photometric.MEAN_BLOCK // 128 // 16,
        divisible=SIZES[:3],
    )


def pictures(dtype: torch.dtype, side: int, most_registers: int) -> Build:
    cut = photometric.cut_of(side)
    options = {name: cut.pop(name) for name in ("num_warps", "num_stages")}
    return Build(
        kernel=_photometric_triton.photometric_kernel,
        types={"images": "*u8", "changes": "*fp32", "partials": "*fp32", "threshold": "fp32"}
        | {"changed": "*bf16" if dtype == torch.bfloat16 else "*fp32"}
        | {"height": "i32", "width": "i32"}
        | PLACES,
        constants={
            "CHANGES": len(photometric.CHANGES),
            "PARTS": 16,
            "PRECISION": photometric.PRECISIONS[dtype],
            **cut,
        },
        most_registers=most_registers,
        wide_loads=0,  # flips and reflections are read byte by byte
        divisible=SIZES[:2] + SIZES[3:],
        options=options,
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
    "LARS norms fp32": norms("fp32", 144),
    "LARS fp32": lars_step("fp32", False, 64),
    "LARS + EMA, bf16 gradients and copies": lars_step("bf16", True, 88),
    "pictures' mean": mean(48),
    "pictures bf16, blurred by 23": pictures(torch.bfloat16, 23, 192),
    "pictures bf16, blurred by 65": pictures(torch.bfloat16, 65, 192),
    "pictures fp32, blurred by 23": pictures(torch.float32, 23, 240),
    "pictures fp32, blurred by 65": pictures(torch.float32, 65, 176),
}
