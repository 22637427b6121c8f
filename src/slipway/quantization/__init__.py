"""Number formats, rounding methods, disk layouts: arithmetic on tensors and names, no files."""
