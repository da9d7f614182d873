"""A checkpoint folder and labelled shards in; probe reports, pages and published backbones out.

tasks (card, importers) | features -> linear_probe -> probe (report) | publish | report (HTML).
This package must not know: the trainer, DeepSpeed, Slurm, or how a checkpoint came about.
"""
