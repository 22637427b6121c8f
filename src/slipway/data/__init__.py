"""Chat rows: read, cleaned, split, measured, described; what DVC recorded of them."""
