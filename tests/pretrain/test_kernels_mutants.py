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
        ("tl.load(numbers + 1)", "tl.load(numbers + 3)"),
        ("tl.load(numbers + 2)", "1.0"),
        ("tl.load(numbers + 3)", "tl.load(numbers + 1)"),
    ],
    "_lars_triton": [
        ("weight * weight, slope * slope", "weight * weight, slope"),
        ("tl.minimum(start + PART, tl.load(row + 6))", "tl.load(row + 6)"),
        ("first += PARTS", "first = last"),
        ("tl.load(starts + layer)", "tl.load(starts)"),
        ("(weight_norm > 0.0) &", ""),
        ("& (slope_norm > 0.0)", ""),
        ("slope_norm + weight_decay * weight_norm", "slope_norm"),
        ("tl.sqrt_rn(tl.sum(slopes, 0))", "tl.sum(slopes, 0)"),
        (".to(tl.float32) + weight_decay * weight", ".to(tl.float32)"),
        ("momentum * tl.load(velocity", "tl.load(velocity"),
        ("weight -= change", "weight -= rate * slope"),
        ("index < numel", "index < numel - 1"),
        ("(weight - mixed)", "(change - mixed)"),
        ("target_copy + index, mixed", "target_copy + index, weight"),
        ("tl.load(numbers + 1)", "tl.load(numbers)"),
        ("tl.load(numbers + 2)", "tl.load(numbers + 1)"),
    ],
    "_photometric_triton": [
        ("maximum(value, 0.0), 255.0)", "maximum(value, 0.0), 300.0)"),
        ("0.587 * green", "0.578 * green"),
        ("plane, tl.load(change + 1), inside)", "plane, 1.0, inside)"),
        ("tl.sum(sums, 0) / plane", "tl.sum(sums, 0) / (plane + 1)"),
        ("mean, tl.load(change + 2)", "_gray(red, green, blue), tl.load(change + 2)"),
        ("_gray(red, green, blue), tl.load(change + 3)", "mean, tl.load(change + 3)"),
        ("tl.where(most == green, 2.0", "tl.where(most == blue, 2.0"),
        ("- 6.0 * tl.floor(corner / 6.0)", ""),
        ("tl.abs(corner - 2.0)", "tl.abs(corner - 4.0)"),
        ("size - 1 - tl.abs(size - 1 - tl.abs(index))", "tl.minimum(index, size - 1)"),
        ("size - 1 - tl.abs(size - 1", "size - tl.abs(size"),
        ("tl.abs(away) <= HALO", "tl.abs(away) < HALO"),
        ("- HALO + start", "+ start"),
        ("TILE + 2 * HALO, CHUNK", "TILE, CHUNK"),
        ("across = _taps(seen[:, None] - column", "across = _taps(seen[:, None] - 1 - column"),
        ("step = -1", "step = 1"),
        ("value >= threshold", "value > threshold"),
        ("tl.int64) * view_stride", "tl.int64) * batch_stride"),
    ],
}
"""By file: a piece of the kernel's text, and what stands there instead."""

UNCHANGED = ("tl", "tl")

COMPARED = """
import importlib.util, json, sys
from pathlib import Path
from unittest.mock import patch

import kernels_layers as layers
import kernels_numerics as numerics
import kernels_pictures as pictures
import torch
from pretrain import kernels
from pretrain.kernels import loss

def cases(file):
    for dtype in (torch.float32, torch.bfloat16):
        if file == "_loss_triton":
            yield from numerics.loss_case((2, 2, 5, 40), dtype, 1e-6, "cpu")
            yield from numerics.many_rows_case(dtype, 8, "cpu")
            yield from numerics.loss_case((3, 2, 13, 200), dtype, 1.0, "cpu")
        elif file == "_ema_triton":
            block = numerics.ema.BLOCK
            yield from numerics.ema_case([1, 7, block, block + 1], dtype, torch.float32, "cpu")
        elif file == "_lars_triton":
            yield from layers.layers_case([40, 7, 1025], (dtype, torch.bfloat16), True, "cpu")
            yield from layers.many_parts_case("cpu", 16, summed=8)
        elif file == "_photometric_triton":
            yield from pictures.picture_case((33, 24), 9, dtype, "cpu")
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
    with patch.object(kernels, file, module, create=True):
        loss._finished.clear()
        verdicts.append(any(not compared.met for compared in cases(file)))
print(json.dumps(verdicts))
"""


@pytest.fixture(scope="module")
def caught(tmp_path_factory):
    """For each (file, text, other text) whether a comparison fails; one process looks at all."""
    mutants = [
        (file, old, new) for file, faults in MUTANTS.items() for old, new in [UNCHANGED, *faults]
    ]
    paths = [str(Path(kernels.__file__).parents[2]), str(Path(__file__).parents[2] / "benchmarks")]
    environment = {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(paths)}
    folder = str(tmp_path_factory.mktemp("mutants"))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPARED, json.dumps(mutants), folder],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(mutants, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("file", MUTANTS)
def test_every_fault_put_into_a_kernel_is_caught(file, caught):
    assert not caught[file, *UNCHANGED], "the kernel itself fails"
    assert [fault for fault in MUTANTS[file] if not caught[file, *fault]] == []
