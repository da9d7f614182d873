"""One corpus row -> the checked bytes of a sample, or why it is left out.

In: a record and the corpus's root. Out: members, suffix -> bytes. Must not know shards or jobs.
"""
