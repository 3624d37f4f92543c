"""Folders of images, and what lies beside them."""
