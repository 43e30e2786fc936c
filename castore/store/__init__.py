"""The room where bytes live: backends, and the typed and verified doors onto them.

Places: ``backend`` says what a place for bytes must promise, and ``conformance`` checks it. ``local`` (over
``local_files``), ``obstore_backend`` and ``fsspec_backend`` keep the promise in a folder, in object stores and over
fsspec; ``urls`` picks one, ``obstore_places`` finds endpoints and credentials, ``probe`` asks whether a store creates
atomically, and ``ahead`` keeps several requests under way.

Doors onto any of them: ``objects``, named by digest, stored as frames (``compress``) and kept near in ``cache``;
``refs``, named by people, of which some are under ``protection``, moved by an ``origin``; ``addresses``, from what
people write to objects; ``layout``, the marker of a repository. What has another name than its digest is sealed
(``records``): ``units``, ``writes``, ``imports``, ``packings``, ``signatures``.

Output directories of open-instruct, which are read and never written here: ``olmo_core_files`` has their names and
statistics, ``olmo_core`` their documents as arrays, ``olmo_core_sources`` which documents came from which entry of the
mix, ``olmo_core_scan`` the documents as pieces for a builder. Two of them against each other: ``olmo_core_equal`` tells
from the bytes alone how far they are equal (over ``file_compare``), ``olmo_core_compare`` which elements differ.
``reorder`` puts samples that do not fit into memory into another order, by temporary files.

The room does I/O and may import ``castore.format`` and ``castore.errors``. It is the only door to fsspec, obstore and
zstandard, and knows nothing of trees.

Nothing here imports numpy, fsspec or zstandard when it is itself imported: a local ``diff``, ``ls`` or ``show`` starts
in the time that those imports alone would take several times over.
"""
