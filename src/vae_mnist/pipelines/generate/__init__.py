"""A checkpoint to new images."""
