"""What a person wants to know of a finished shard set: is it whole, what does it hold.

In: a shard set. Out: damages, a description or a page, indexes for other readers.
"""
