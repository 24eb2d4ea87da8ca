"""Commands that a person runs; one file each."""
