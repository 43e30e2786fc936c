"""The room that looks after a whole repository: checking, copying, collecting, counting, vouching.

Everything here works on any backend, knows objects by their links alone, and keeps memory to a few dozen bytes an
object: what is known of all objects stands in arrays (``census``), never in sets of digests.
"""
