"""Artifacts as values: kinds, complete-or-absent directories, the key that decides reuse, lineage."""
