"""Kedro datasets of our own; each wraps a reader or writer that also works without Kedro."""
