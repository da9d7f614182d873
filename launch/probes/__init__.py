"""The probes of a run's checkpoints, as Slurm arrays or one after the other on this machine.

Comes in: a run folder with whole checkpoints, and tasks. Goes out: reports, pinned to the weights
they are of. `states` says where each stands, `jobs` and `inline` see to what is missing.
"""
