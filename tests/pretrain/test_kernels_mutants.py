"""Do the comparisons with the twins see a wrong kernel? Faults are put into the kernels' text."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pretrain import kernels

MUTANTS = {
    "_loss_triton": [
        ("tl.sum(prediction * prediction, 1) + eps", "tl.sum(prediction * prediction, 1)"),
        ("tl.sum(projection * projection, 1) + eps", "tl.sum(projection * projection, 1)"),
        ("tl.load(predictions + here, mask=inside, other=0.0)", "tl.load(predictions + here)"),
        ("tl.load(projections + there, mask=inside, other=0.0)", "tl.load(projections + there)"),
        ("row, mask=row < batch, other=0.0)", "row)"),
        ("pair * 2 + 1 - view", "pair * 2 + view"),
        ("summed += weight * (2.0", "summed += (2.0"),
        ("-2.0 * weight * pair_weight", "-2.0 * pair_weight"),
        ("-2.0 * weight * pair_weight", "-2.0 * weight"),
        ("(target_unit - cosine[:, None] * unit)", "target_unit"),
        ("sums += tl.sum(", "sums = tl.sum("),
        ("tl.sum(sums * factors, 0)", "tl.sum(sums, 0)"),
        ("value * scale", "value"),
    ],
    "_ema_triton": [
        ("weight * gap", "(1.0 - weight) * gap"),
        ("index < numel", "index <= numel"),
        (".to(tl.int64) * BLOCK", ".to(tl.int64) * (BLOCK // 2)"),
        ("copy + index, mixed", "copy + index, old"),
        ("gap * gap", "gap"),
    ],
    "_adamw_triton": [
        ("* root_scale", ""),
        ("* root_scale + eps", "* root_scale"),
        ("(1.0 - beta2) * gradient * gradient", "(1.0 - beta2) * gradient"),
        ("(1.0 - beta2) * gradient * gradient", "(1.0 - beta2) * mean * mean"),
        ("mean_weight * (gradient - mean)", "mean_weight * gradient"),
        ("keep * parameter", "parameter"),
        ("index < numel", "index < numel - 1"),
        ("(parameter - target)", "(mean - target)"),
        ("copied = target.to", "copied = parameter.to"),
    ],
}
"""By file: a piece of the kernel's text, and what stands there instead."""

COMPARED = """
import importlib.util, json, sys
from pathlib import Path

import kernels_numerics as numerics
import torch
from pretrain import kernels
from pretrain.kernels import loss

def cases(file):
    for dtype in (torch.float32, torch.bfloat16):
        if file == "_loss_triton":
            yield from numerics.loss_case((3, 2, 13, 200), dtype, 1.0, "cpu")
            yield from numerics.loss_case((2, 2, 5, 40), dtype, 1e-6, "cpu")
            yield from numerics.loss_case((1, 2, 130, 1030), dtype, 1.0, "cpu")
        elif file == "_ema_triton":
            block = numerics.ema.BLOCK
            yield from numerics.ema_case([1, 7, block, block + 1], dtype, torch.float32, "cpu")
        else:
            size = numerics.adamw.BLOCK + 3
            yield from numerics.adamw_case(size, dtype, torch.bfloat16, "cpu")

mutants, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
verdicts = []
for number, (file, old, new) in enumerate(mutants):
    text = (Path(kernels.__file__).parent / f"{file}.py").read_text()
    assert old in text, f"{file} has no {old!r}"
    path = folder / f"{file}_{number}.py"
    path.write_text(text.replace(old, new))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    setattr(kernels, file, module)
    loss._finished.clear()
    verdicts.append(any(not compared.met for compared in cases(file)))
print(json.dumps(verdicts))
"""


def caught(mutants, folder):
    """For each (file, text, other text) whether a comparison fails."""
    paths = [str(Path(kernels.__file__).parents[2]), str(Path(__file__).parents[2] / "benchmarks")]
    environment = {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPARED, json.dumps(mutants), str(folder)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("file", MUTANTS)
def test_every_fault_put_into_a_kernel_is_caught(file, tmp_path):
    mutants = [(file, "tl", "tl"), *((file, old, new) for old, new in MUTANTS[file])]
    unchanged, *found = caught(mutants, tmp_path)
    assert not unchanged, "the kernel itself fails"
    missed = [pair for pair, seen in zip(MUTANTS[file], found, strict=True) if not seen]
    assert not missed
