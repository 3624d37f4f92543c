"""How likely a hit is a match: the calibration in force, and making one of the collection itself."""
