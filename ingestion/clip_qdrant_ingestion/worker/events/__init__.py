"""Where a worker hears of changes, messages of object stores and the local file system, and the queue they wait in."""
