"""TripleBatch in, checkpoints with a backbone out: multimodal BYOL and its training.

Read in this order: config, views, models, objectives, ema, engine, trainer, build.
This package must not know: Slurm, probes, labels, the command line.
"""
