"""Tables that name images."""
