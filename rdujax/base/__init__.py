"""Errors, registries, sourced facts, and the one file that touches what JAX does not promise to keep."""
