"""Kinds of work: contraction, map, move."""
