"""Everything that changes weights: the loop, its state, and where it runs."""
