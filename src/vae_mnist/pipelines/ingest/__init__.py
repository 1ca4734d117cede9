"""MNIST to tensors."""
