"""What a search asks for, from the models of qdrant-client to the types of the engine."""
