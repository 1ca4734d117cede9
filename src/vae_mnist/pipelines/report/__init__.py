"""Checkpoints and losses to pictures and tables."""
