"""The commands `ingest` and `ingest-report`."""
