"""The search for the fastest training setting that fits, measured on the target."""
