"""Retrieval: documents cut into chunks, embedded, indexed, searched, and the arms compared."""
