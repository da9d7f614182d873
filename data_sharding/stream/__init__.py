"""Shard sets -> batches: which sample comes when, decoded in worker processes.

In: sets and their weights. Out: TripleBatch; the only state is the number of samples consumed.
"""
