"""The room that compares: two datasets or output directories, what differs between them, and lock files."""
