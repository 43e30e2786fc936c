"""How a sequence of samples becomes a tree, and how two trees are compared.

Pure: bytes come from a ``fetch`` callable and go out as returned values. One split rule serves chunks and nodes, one
skeleton serves all arrays of a manifest.
"""
