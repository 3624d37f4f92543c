"""The formats that pairs are read from, a module for each kind; `data.read` finds which one it is."""
