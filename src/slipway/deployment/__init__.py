"""A release on a target: promoted beside the champion, switched, rolled back."""
