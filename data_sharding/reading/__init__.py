"""Sample numbers -> bytes: local or remote, every CRC32 checked, nothing decoded.

In: shard sets. Out: RawSample, or which sample or shard is broken. Must not know the order.
"""
