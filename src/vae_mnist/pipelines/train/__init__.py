"""Images to checkpoints."""
