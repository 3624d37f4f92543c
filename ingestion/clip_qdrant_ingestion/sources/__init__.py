"""Where images come from. `protocol` says what a source is, `open` makes one of a location.

`tree` has folders, `buckets` what fsspec reaches, `tables` manifests, `archives` tar files, `web` pages of links and
single addresses. `share`, `path_pattern` and `confined` are views of any of them (`view`).
"""
