"""The room where bytes live: backends, and the typed and verified doors onto them.

``backend`` says what a place for bytes must promise; ``local`` and ``fsspec_backend`` keep the promise on a disk and
over fsspec; ``urls`` picks one. ``objects`` (named by digest), ``refs`` (named by people) and ``layout`` (the marker of
a repository) stand on any backend; ``compress`` and ``records`` are the stored frames of the first two.

The room does I/O and may import ``castore.format`` and ``castore.errors``. It is the only door to fsspec and zstandard.
It knows bytes and digests and nothing of tokens, trees or manifests.

Nothing here imports numpy, fsspec or zstandard when it is itself imported: a local ``diff``, ``ls`` or ``show`` starts
in the time that those imports alone would take several times over.
"""
