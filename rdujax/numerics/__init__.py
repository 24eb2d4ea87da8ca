"""Number formats and every operation on them, bit by bit (laws N1 to N11)."""
