"""Objects fetched from the web, for strangers too: public hosts alone, within limits of time and size.

fetch.py asks, over connections.py; pieces.py puts an answer together, and retries.py asks again.
"""
