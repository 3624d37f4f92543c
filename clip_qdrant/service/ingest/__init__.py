"""Runs of ingestion that requests start: from where they may take images, and where they stand."""
