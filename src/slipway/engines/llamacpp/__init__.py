"""llama.cpp: its server built for this CPU, models converted to its file format."""
