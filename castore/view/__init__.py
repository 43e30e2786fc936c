"""Reading a repository: datasets, differences, exports. Writes nothing into it."""
