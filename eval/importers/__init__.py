"""Labelled sets as their authors distribute them in; tasks (labelled shards plus a card) out.

`registry` names the sets, one module reads each layout, `rows` makes the task. An importer
downloads nothing and keeps every row that it drops in a count.
This package must not know: backbones, probes, how shards are written.
"""

from eval.importers.registry import IMPORTERS, Importer, ImportOptions, import_set
from eval.importers.sample_topics import prepare_sample_topics
from eval.importers.table import TableConfig, import_table

__all__ = [
    "IMPORTERS",
    "ImportOptions",
    "Importer",
    "TableConfig",
    "import_set",
    "import_table",
    "prepare_sample_topics",
]
