"""The bundled sample corpus, beside this file, and the scripts that rebuild it.

In: Debian's package tuxpaint-stamps-default. Out: manifest.jsonl, images/ and audio/.
"""
