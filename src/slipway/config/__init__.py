"""Every key of a run: one section a file, parsed once at the edge into frozen models."""
