"""The fused EMA against its plain twin; the kernel itself runs under Triton's interpreter."""

import os
import subprocess
import sys

import pytest
import torch

from pretrain.kernels import ema_update_, reference

INTERPRETED = """
import torch
from pretrain.kernels.ema import BLOCK, fused_ema_update_
from pretrain.kernels import reference

torch.manual_seed(0)
for size in (1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5):
    for online_dtype in (torch.float32, torch.bfloat16):
        for copy_dtype in (None, torch.float32, torch.bfloat16):
            target = torch.randn(size)
            online = torch.randn(size).to(online_dtype)
            twin = target.clone()
            copies = None if copy_dtype is None else [torch.zeros(size, dtype=copy_dtype)]
            twins = None if copies is None else [torch.zeros_like(copies[0])]
            fused_ema_update_([target], [online], 0.996, copies)
            reference.ema_update_([twin], [online], 0.996, twins)
            torch.testing.assert_close(target, twin, rtol=1e-6, atol=1e-7)
            if copies is not None:
                # The interpreter truncates on a bfloat16 store: one unit in the last place.
                rtol = 2**-7 if copy_dtype == torch.bfloat16 else 1e-6
                torch.testing.assert_close(copies[0], twins[0], rtol=rtol, atol=1e-7)
print("kernel equals twin")
"""


def test_the_kernel_equals_its_plain_twin_under_the_interpreter():
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "kernel equals twin" in done.stdout


COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from pretrain.kernels._ema_triton import ema_kernel

source = ASTSource(
    fn=ema_kernel,
    signature={"target": "*fp32", "online": "*fp32", "copy": "*bf16", "weight": "fp32",
               "num_elements": "i32", "HAS_COPY": "constexpr", "BLOCK": "constexpr"},
    constexprs={"HAS_COPY": True, "BLOCK": 4096},
    attrs={(i,): [["tt.divisibility", 16]] for i in (0, 1, 2, 4)},
)
for capability in (80, 90, 100):
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    assert len(compiled.asm["cubin"]) > 0
    ptx = compiled.asm["ptx"]
    assert "ld.global.v4" in ptx or "v4.b32" in ptx, "loads are not 16 bytes wide"
    assert ".local" not in ptx, "registers were spilled"
print("compiled")
"""


def test_the_kernel_compiles_for_three_gpu_generations_with_wide_loads():
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "compiled" in done.stdout


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device"
)  # all else runs without
def test_the_kernel_stays_within_its_error_budget_on_a_gpu():
    target = torch.randn(1_000_003, device="cuda")
    online = torch.randn(1_000_003, device="cuda")
    exact = target.double() + 0.004 * (online.double() - target.double())
    eager = target.clone()
    reference.ema_update_([eager], [online], 0.996)
    ema_update_([target], [online], 0.996)
    error, eager_error = ((t.double() - exact).abs().max() for t in (target, eager))
    assert error <= max(2.0 * eager_error.item(), 4 * 2**-24 * exact.abs().max().item())


def test_a_bfloat16_master_is_refused():
    rows = [torch.zeros(4, dtype=torch.bfloat16)]
    with pytest.raises(ValueError, match="float32"):
        ema_update_(rows, rows, 0.99)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="do not match"):
        ema_update_([torch.zeros(4)], [torch.zeros(5)], 0.99)


def test_a_tau_outside_zero_to_one_is_refused():
    with pytest.raises(ValueError, match="tau"):
        ema_update_([torch.zeros(4)], [torch.zeros(4)], 1.5)
