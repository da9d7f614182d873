"""Parquet manifests, one batch of a row group in memory at a time."""

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from data_sharding.schema import Rejection
from data_sharding.sources.fields import lift
from data_sharding.storage import open_binary

BATCH_ROWS = 1024


def parquet_rows(
    location: str, columns: Mapping[str, str]
) -> Iterator[tuple[int, dict[str, Any] | Rejection]]:
    """Number (from 1) and values of each row; structs ``labels`` and ``metadata`` are lifted.

    Raises:
        ValueError: It is no whole Parquet file.
    """
    number = 0
    with open_binary(location) as file:
        try:
            for batch in parquet.ParquetFile(file).iter_batches(BATCH_ROWS, use_threads=False):
                for fields in _fields(batch):
                    number += 1
                    yield number, fields
        except pa.ArrowException as error:
            raise ValueError(
                f"{location}: no whole Parquet file, broken after row {number} ({error})"
            ) from error


def _fields(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | Rejection]:
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError:  # one broken text spoils the whole batch: take it row by row
        for position in range(batch.num_rows):
            yield _one_row(batch.slice(position, 1))
        return
    yield from map(lift, rows)


def _one_row(row: pa.RecordBatch) -> dict[str, Any] | Rejection:
    try:
        return lift(row.to_pylist()[0])
    except UnicodeDecodeError:
        return Rejection("invalid-utf8", "the row holds bytes that are not UTF-8")
