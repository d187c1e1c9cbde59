"""One API noun each, with one method for each documented operation."""
