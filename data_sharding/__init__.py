"""Raw corpora in; tar shards, an index beside each, and an endless stream of TripleBatch out.

Must not know what the batches are for: no model, no view, no loss, no cluster. Nothing is imported
here, so that a process which only checks sums need not wait for torch:

- `job`: `shard_corpus`; its parts are `sources`, `cleaning`, `duplicates`, `writer`
- `manifest`: `ShardSet`; `index`: the .idx format; `schema`: what a sample is, and the errors
- `reading`: `ShardReader`; `decode`; `batch`: `TripleBatch`
- `stream`: `TripleLoader`, `open_stream`, `LaneOrder`, `evaluation_pass`
- `stats`: `CorpusStats`; `foreign` and `tools`: what `triptych index`, `verify`, `inspect` do
"""
