"""What a run would do and need, told before a job is submitted.

A RunConfig goes in; chapters of facts, and findings that would stop or spoil the run, come out.
Each chapter is looked at on its own. Nothing is submitted, and no run is begun.
"""
