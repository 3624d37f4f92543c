"""Where images come from: folders, buckets, tables of uris, archives, web pages, behind one protocol (`source`)."""
