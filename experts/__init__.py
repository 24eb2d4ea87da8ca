"""Language models in plain Flax; nothing here knows of the emulator."""
