"""What a person reads afterwards: model card, run report, their tables."""
