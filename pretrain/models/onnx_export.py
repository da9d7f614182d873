"""Encoders and fusion as ONNX graphs, for runtimes without Python; each checked against torch.

Inputs are normalised, as `Backbone.read_by_encoders` gives them; any number of rows, texts of the
backbone's ``max_tokens``, clips of its ``clip_seconds``.
"""

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from data_sharding.schema import MODALITIES
from pretrain.models.audio.config import num_frames
from pretrain.models.backbone import Backbone
from pretrain.models.encoded import Encoded

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OUTPUTS = ("embedding", "tokens", "mask")
"""Of every encoder, see `Encoded`; with the modality before them (`text_embedding`), as the fusion
takes them."""
TOLERANCE = 1e-4
"""Of ONNX Runtime against torch: absolute, and per unit of the value."""

_OPSET = 18


def refuse_without_onnx() -> None:
    """Say how to get the packages.

    Raises:
        ValueError: One of them is not installed.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"ONNX needs {', '.join(missing)}, not installed here: pip install 'triptych[onnx]', "
            f"or pip install {' '.join(missing)}"
        )


def export_onnx(backbone: Backbone, folder: Path) -> tuple[str, ...]:
    """Write ``text.onnx``, ``image.onnx``, ``audio.onnx`` and ``fusion.onnx``.

    Raises:
        ValueError: A package is missing, an encoder has an operation that ONNX lacks, or a graph
            computes something else than torch.
    """
    refuse_without_onnx()
    folder.mkdir(parents=True)
    example, other = _made_up(backbone, rows=2), _made_up(backbone, rows=3)
    examples, others = {}, {}
    for name in MODALITIES:
        graph = _Tower(backbone.encoders[name])
        named = tuple(f"{name}_{kind}" for kind in OUTPUTS)
        _write(graph, example[name], named, folder / f"{name}.onnx")
        _check(graph, other[name], folder / f"{name}.onnx")
        for found, given in ((examples, example), (others, other)):
            found |= _named(name, graph, given[name])
    fusion = _Fusion(backbone.fusion)
    path = folder / "fusion.onnx"
    _write(fusion, {"available": torch.ones(2, 3, dtype=torch.bool)} | examples, ("fused",), path)
    available = torch.tensor([[True, True, True], [True, False, False], [False, True, True]])
    _check(fusion, {"available": available} | others, path)
    return tuple(sorted(path.name for path in folder.iterdir()))


class _Tower(nn.Module):
    """An encoder whose outputs are a tuple."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        encoded: Encoded = self.encoder(*inputs)
        # A copy: an output that is an input itself has no name of its own.
        return encoded.pooled, encoded.tokens, encoded.token_mask.clone()


class _Fusion(nn.Module):
    """The fusion of three encoders' tuples."""

    def __init__(self, fusion: nn.Module) -> None:
        super().__init__()
        self.fusion = fusion

    def forward(self, *inputs: Tensor) -> tuple[Tensor]:
        available, *parts = inputs
        encoded = {
            name: Encoded(*parts[3 * place : 3 * place + 3])
            for place, name in enumerate(MODALITIES)
        }
        return (self.fusion(encoded, available),)


def _made_up(backbone: Backbone, rows: int) -> dict[str, dict[str, Tensor]]:
    """Normalised inputs of each encoder, by modality and name."""
    generator = torch.Generator().manual_seed(rows)
    config, stats = backbone.config, backbone.stats
    length, side = config.text.max_tokens, config.image.size_pixels
    frames = num_frames(config.audio.clip_seconds, stats.log_mel)
    kept = torch.arange(rows, 0, -1).unsqueeze(1) * length // rows
    return {
        "text": {
            "token_ids": torch.randint(0, stats.vocab_size, (rows, length), generator=generator),
            "token_mask": torch.arange(length) < kept.clamp(min=1),
        },
        "image": {"image": torch.randn(rows, 3, side, side, generator=generator)},
        "audio": {
            "log_mel": torch.randn(rows, stats.log_mel.num_mels, frames, generator=generator)
        },
    }


@torch.no_grad()
def _named(name: str, graph: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An encoder's outputs under the names that the fusion takes them by."""
    outputs = graph(*inputs.values())
    return {f"{name}_{kind}": value for kind, value in zip(OUTPUTS, outputs, strict=True)}


def _write(
    graph: nn.Module, inputs: Mapping[str, Tensor], outputs: tuple[str, ...], path: Path
) -> None:
    rows = {0: torch.export.Dim("rows")}
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph.eval(),
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=(tuple(rows for _ in inputs),),
                opset_version=_OPSET,
                dynamo=True,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        cause = error.__cause__ or error
        reason = str(cause).strip().splitlines()[0]
        raise ValueError(f"{path.stem} cannot be written as ONNX: {reason}") from error
    assert program is not None
    _save_without_traces(program.model_proto, path)


def _save_without_traces(model, path: Path) -> None:  # noqa: ANN001  (onnx is optional)
    """The exporter notes for each node which line of which file made it."""
    import onnx

    for graph in (model.graph, *model.functions):
        del graph.metadata_props[:]
        values = () if graph is not model.graph else (*graph.input, *graph.output)
        for part in (*graph.node, *graph.value_info, *values):
            part.ClearField("doc_string")
            del part.metadata_props[:]
    del model.metadata_props[:]
    model.ClearField("doc_string")
    onnx.save(model, path)


def _check(graph: nn.Module, inputs: Mapping[str, Tensor], path: Path) -> None:
    """Compare with torch on inputs, and a number of rows, that the graph was not made from."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    read = {entry.name for entry in session.get_inputs()}  # a fusion may not read every input
    given = {name: value.numpy() for name, value in inputs.items() if name in read}
    found = session.run(None, given)
    with torch.no_grad():
        expected = graph(*inputs.values())
    for value, wanted in zip(found, expected, strict=True):
        difference = (torch.from_numpy(value).float() - wanted.float()).abs()
        if not (difference <= TOLERANCE * (1.0 + wanted.float().abs())).all():
            raise ValueError(
                f"{path.name} differs from torch by {float(difference.max()):.1e} "
                f"(at most {TOLERANCE:.0e})"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of its own progress, at length."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
