"""torch: the network and the files it lives in."""
