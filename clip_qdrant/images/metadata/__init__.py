"""What an image file says of itself: EXIF, IPTC and XMP, merged into fields of fixed types."""
