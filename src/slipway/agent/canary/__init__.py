"""What stands beside the champion for a while: shares, the mirror, captured prompts."""
