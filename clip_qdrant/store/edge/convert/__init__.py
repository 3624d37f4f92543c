"""Between qdrant_client.models and the types of the embedded engine (qdrant_edge).

Every value is checked here, before the engine sees it: an update that the engine rejects is in its write-ahead log
already and may come back after a crash, NaN and zero vectors it does not reject at all, and booleans become integers
on the way unless they are numpy's.
"""
