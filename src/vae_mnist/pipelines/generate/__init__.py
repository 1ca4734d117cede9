"""A checkpoint to new digits."""
