"""Runs a placed program through the units."""
