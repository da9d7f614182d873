"""Embeddings as a Parquet table or a NumPy array; there whole at the end, or not at all."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_sharding.durable import writing_durably
from data_sharding.schema import MODALITIES
from eval.release.embed_inputs import Sample
from pretrain.models import Embeddings

NAMES = (*MODALITIES, "fused")
Batch = tuple[Sequence[Sample], Embeddings]


def write_parquet(
    batches: Iterable[Batch], dims: Mapping[str, int], metadata: Mapping[str, str], out: Path
) -> None:
    """A row per sample: ``id``, ``source``, and a list of float32 for each modality and the fusion.

    A modality that a sample lacks is null. Only one batch is held in memory.

    Args:
        batches: Samples and their embeddings.
        dims: Dimension of each embedding.
        metadata: Kept in the file's schema.
        out: File to write.
    """
    fields = [pa.field("id", pa.string()), pa.field("source", pa.string())]
    fields += [pa.field(name, pa.list_(pa.float32(), dims[name])) for name in NAMES]
    schema = pa.schema(fields, metadata=dict(metadata))
    with writing_durably(out) as file, pq.ParquetWriter(file, schema) as writer:
        for samples, embeddings in batches:
            writer.write_table(_table(samples, embeddings, schema))


def write_npy(batches: Iterable[Batch], name: str, out: Path) -> None:
    """An array of [sample, dim] and, beside it, ``OUT.ids.json`` with the samples' ids in order.

    Both files are whole before either takes its name.

    Args:
        batches: Samples and their embeddings.
        name: A modality, or ``fused``.
        out: File to write.

    Raises:
        ValueError: A sample lacks the modality.
    """
    rows: list[np.ndarray] = []
    ids: list[str] = []
    for samples, embeddings in batches:
        if name != "fused":
            _refuse_lacking(samples, embeddings, name)
        rows.append(getattr(embeddings, name).numpy())
        ids += [sample.id for sample in samples]
    with writing_durably(ids_file(out)) as ids_out, writing_durably(out) as file:
        ids_out.write(json.dumps(ids, ensure_ascii=False).encode())
        ids_out.flush()
        os.fsync(ids_out.fileno())  # the array is renamed first: no write may fail after that
        np.save(file, np.concatenate(rows), allow_pickle=False)


def ids_file(out: Path) -> Path:
    """Where the ids of an array's rows lie."""
    return out.with_name(f"{out.name}.ids.json")


def _table(samples: Sequence[Sample], embeddings: Embeddings, schema: pa.Schema) -> pa.Table:
    present = embeddings.present.numpy()
    columns: list[pa.Array] = [
        pa.array([sample.id for sample in samples], pa.string()),
        pa.array([sample.source for sample in samples], pa.string()),
    ]
    for place, name in enumerate(NAMES):
        values = getattr(embeddings, name).numpy()
        missing = None if name == "fused" else pa.array(~present[:, place])
        columns.append(
            pa.FixedSizeListArray.from_arrays(
                pa.array(values.ravel()), type=schema.field(name).type, mask=missing
            )
        )
    return pa.Table.from_arrays(columns, schema=schema)


def _refuse_lacking(samples: Sequence[Sample], embeddings: Embeddings, name: str) -> None:
    there = embeddings.present[:, MODALITIES.index(name)].tolist()
    for sample, has in zip(samples, there, strict=True):
        if not has:
            raise ValueError(
                f"{sample.source}: {sample.id} has no {name}, and an array has no empty rows; "
                "write a .parquet file, or --representation fused"
            )
