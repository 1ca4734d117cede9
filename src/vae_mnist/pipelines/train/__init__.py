"""Digits to checkpoints."""
