"""The ``castore`` command: parses, renders, reads the environment, chooses exit codes. No logic of its own."""
