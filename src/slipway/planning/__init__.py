"""What a step needs, known before it starts: memory, parallel sizes, speed."""
