"""EdgeClient: an embedded Qdrant behind the methods of qdrant-client."""
