"""Where image files keep their EXIF, IPTC and XMP, format by format: found as bytes, read elsewhere."""
