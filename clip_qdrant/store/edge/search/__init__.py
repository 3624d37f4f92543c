"""How an embedded shard is searched: the order of points, fusions, groups, distances between points."""
