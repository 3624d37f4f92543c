"""The way to Qdrant: which client a location names, and every call to one."""
