"""Training: rows of packed texts, a loop that goes on after a kill with the same bits, and what is trained on what."""
