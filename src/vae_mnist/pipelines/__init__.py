"""One folder a pipeline: `pipeline.py` is the wiring, `nodes.py` fits the library to the catalog."""
