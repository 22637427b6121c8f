"""A candidate asked before and beside the champion: probes, mirrored answers, the sequential test."""
