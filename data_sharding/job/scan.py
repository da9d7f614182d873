"""The scan task: checks some rows once, fully, and writes what is needed to compare them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from data_sharding.cleaning.clean import SPLIT_NAME, check_record, raw_crc32
from data_sharding.duplicates import SIGNATURE, Signer
from data_sharding.duplicates.table import write_signatures
from data_sharding.job.folder import JobFolder, TaskSettings
from data_sharding.job.plan import rows_of_task
from data_sharding.schema import Rejection
from data_sharding.sources.rows import Row
from data_sharding.writer import size_in_tar


def scan_task(folder: JobFolder, number: int) -> None:
    """Checks the rows of one file; its receipt lists the rejected ones and the splits.

    Args:
        folder: The job.
        number: Which file of rows.
    """
    settings = folder.settings()
    scan = _Scan(settings)
    for row in rows_of_task(folder, number):
        scan.add(row)
    table = folder.table_file(number)
    write_signatures(
        table,
        len(scan.signatures),
        iter([np.array(scan.signatures, SIGNATURE)]),
        len(scan.alternatives),
        iter([np.array(scan.alternatives, SIGNATURE)]),
    )
    receipt = {
        "job": settings.job,
        "files": {str(table.relative_to(folder.out)): table.stat().st_size},
        "rows": len(scan.signatures),
        "splits": list(scan.splits),
        "rejects": scan.rejects,
    }
    folder.write_receipt("scan", number, receipt)


def reject_line(row: Row, reason: str, detail: str) -> dict[str, Any]:
    """A rejected row as rejects.jsonl holds it."""
    name = None if isinstance(row.content, Rejection) else row.content.id
    readable = detail.encode("utf-8", "replace").decode("utf-8")
    return {"row": row.number, "id": name, "reason": reason, "detail": readable}


class _Scan:
    """Rows checked so far."""

    def __init__(self, settings: TaskSettings) -> None:
        self._settings = settings
        self._signer = Signer(settings.config.duplicates)
        self.signatures: list[np.void] = []
        self.alternatives: list[np.ndarray] = []
        self.splits: dict[str, int] = {}
        self.rejects: list[Mapping[str, Any]] = []

    def add(self, row: Row) -> None:
        try:
            signature = self._signed(row)
        except Rejection as rejection:
            signature = np.zeros(1, SIGNATURE)[0]
            place = {"at": len(self.signatures)}
            line = reject_line(row, rejection.reason, rejection.detail)
            self.rejects.append({**line, **place})
        signature["number"] = row.number
        self.signatures.append(signature)

    def _signed(self, row: Row) -> np.void:
        record = row.content
        if isinstance(record, Rejection):
            raise record
        if not SPLIT_NAME.fullmatch(record.split):
            raise Rejection("bad-row", f"{record.split!r} is no name for a split")
        hashes: dict[str, np.ndarray] = {}

        def look(suffix: str, pixels: UInt8[Tensor, "3 height width"]) -> None:
            if (found := self._signer.perceptual(pixels)) is not None:
                hashes[suffix] = found

        checked = check_record(record, self._settings.root, self._settings.config.clean, look)
        for alternative in self._signer.alternatives(checked.members, hashes):
            alternative["number"] = len(self.signatures)
            self.alternatives.append(alternative)
        signature = self._signer.sign(checked.members, record.labels, checked.image, checked.text)
        signature["crc32"] = raw_crc32(checked.members)
        signature["bytes"] = size_in_tar(checked.members) + size_in_tar({"json": record.card()})
        signature["split"] = self.splits.setdefault(record.split, len(self.splits)) % 256
        return signature
