"""One folder per pipeline: `pipeline.py` connects nodes to datasets, `nodes.py` adapts library functions."""
