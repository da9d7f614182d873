"""WebDataset tars that others wrote: their samples from headers alone, and indexes beside them.

In: tars as they lie. Out: samples, faults, and a shard set of the same tars. Nothing is extracted.
"""
