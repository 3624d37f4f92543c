"""The client of a service in Python: the calls of ImageCollection, and what comes back from them, over HTTP."""
