"""Keys of callers: what each may do, the file they come from, and the narrow view that a tenant has of a store."""
