"""Many requests at once, one encoder: embedder.py gathers what they ask for into batches.

batcher.py makes batches of jobs (jobs.py), of texts by their lengths (lengths.py); vector_cache.py keeps the vectors of
texts, decoding.py decodes images beside the encoder, options.py has the bounds. ahead.py
embeds the texts of a search before it takes a thread.
"""
