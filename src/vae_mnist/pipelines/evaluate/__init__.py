"""The newest checkpoint to metrics."""
