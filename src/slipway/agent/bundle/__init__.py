"""Layers of bundles: received by digest, kept as files, checked, signed by whom."""
