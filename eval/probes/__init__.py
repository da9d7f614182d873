"""In: a checkpoint and a labelled task; out: scores of frozen features beside their floors.

Also what one backbone is worth beside another, and which checkpoint of a run is best.
This package must not know: pages, publishing, jobs.
"""
