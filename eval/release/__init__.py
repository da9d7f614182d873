"""In: a checkpoint; out: a backbone that others load, and what can be done with one.

Card, gates, sums, upload; embedding of files, heads and their predictions.
"""
