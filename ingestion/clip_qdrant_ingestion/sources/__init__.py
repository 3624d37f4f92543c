"""Where images come from. `protocol` says what a source is, `open` makes one of a location.

`tree` has folders, `buckets` what fsspec reaches, `tables` manifests, `archives` tar files, `web` pages of links and
single addresses. `share` and `path_pattern` are put around any of them.
"""
