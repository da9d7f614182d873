"""Labelled sets as their authors distribute them in; tasks (labelled shards plus a card) out.

One module per set. An importer downloads nothing and keeps every row that it drops in a count.
This package must not know: backbones, probes, how shards are written.
"""

from eval.importers.mvsa import import_mvsa_single
from eval.importers.sample_topics import prepare_sample_topics

__all__ = ["import_mvsa_single", "prepare_sample_topics"]
