"""vLLM: the command of its server, in its image or in a Python environment."""
