"""Tensors that travel as tiles."""
