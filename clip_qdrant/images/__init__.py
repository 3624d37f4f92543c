"""Files to pixels, and what the files say of themselves."""
