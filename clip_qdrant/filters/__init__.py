"""`where=` to qdrant_client.models.Filter."""
