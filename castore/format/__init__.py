"""What the bytes mean: canonical encoding, chunks, nodes, manifests, run and unit records.

Pure: no clock, no disk, no environment. Nothing here imports numpy when it is imported, since reading a few objects
must start in a tenth of a second; functions that work on whole arrays import it when called.
The same things in words: ``docs/format/``.
"""
