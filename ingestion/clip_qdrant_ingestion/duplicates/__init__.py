"""Images that nearly equal another one."""
