"""The command line and the cluster: recipes and options in, running jobs out.

`__main__` is the `triptych` command, `commands` what each sub-command does, `worker` one rank.
Nobody imports this package; it is the only one that knows submitit.
"""
