"""The room where bytes live: backends, and the typed and verified doors onto them.

Places: ``backend`` says what a place for bytes must promise, ``conformance`` checks it, and ``live_conformance`` on a
URL. ``local`` (over ``folders``), ``obstore`` and ``fsspec`` keep the promise in a folder, in object stores and over
fsspec; ``urls`` picks one, ``obstore_places`` finds endpoints and credentials, ``obstore_errors`` says what went wrong,
``atomic_create`` asks whether a store creates atomically, and ``pipelined_requests`` keeps several under way.

Doors onto any of them: ``objects``, named by digest, stored as frames (``compress``) and kept near in ``cache``;
``refs``, named by people, of which some are under ``protection``, moved by somebody (``run_origin``); ``addresses``,
from what people write to objects; ``marker``, what makes a place a repository. What has another name than its digest is
sealed (``records``): ``units``, ``writes``, ``imports``, ``packings``, ``signatures``; ``kinds`` is the table of them
all.

Files: ``files`` opens, writes whole, links and syncs them, for all rooms; ``large_file`` writes past the page cache;
``bucket_sort`` puts samples that do not fit into memory into another order, by temporary files. ``byte_sizes`` reads
sizes as people write them.

The room does I/O and may import ``castore.format`` and ``castore.errors``. It is the only door to fsspec, obstore and
zstandard, and knows nothing of trees.

Nothing here imports numpy, fsspec or zstandard when it is itself imported: a local ``diff``, ``ls`` or ``show`` starts
in the time that those imports alone would take several times over.
"""
