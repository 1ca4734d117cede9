"""Everybody's way of training the same VAE, timed side by side: python -m benchmarks"""
