"""Random collections and random requests, sent to two clients of Qdrant, and their answers compared.

layouts.py, payloads.py, filters.py: what collections hold and how points are chosen. reads.py, queries.py, writes.py,
mistakes.py: the requests, by kind. compare.py: when two answers agree. worlds.py: one collection in two stores.
`PYTHONPATH=tests/support python -m congruence` prints a table of kinds. What local mode does otherwise is left out; the
table of it is in docs/embedded.md.
"""
