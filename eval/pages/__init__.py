"""In: what a run and its probes have written; out: pages and tables to look at.

This package must not know: backbones, how a score was made.
"""
