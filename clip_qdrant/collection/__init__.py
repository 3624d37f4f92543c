"""Images of one embedder in one Qdrant collection: searched, written and described."""
