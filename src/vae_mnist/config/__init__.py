"""Every parameter: its type, its range, and what is wrong with it, in words."""
