"""Whole runs: the world that they happen in, one a file."""

from tests.support.flow_world import world  # noqa: F401
