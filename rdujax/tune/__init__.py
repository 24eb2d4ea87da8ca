"""Searches among machines: what a program would cost on very many of them."""
