"""Prices a placed program from shapes alone."""
