"""Parameters: types, ranges, and messages about wrong values."""
