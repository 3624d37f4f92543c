"""Files that name images or hold them: tables of rows, tar archives, and what their names tell.

Ingestion and training read both, and do it here: one reader of rows, of columns, of tar members and of suffixes.
"""
