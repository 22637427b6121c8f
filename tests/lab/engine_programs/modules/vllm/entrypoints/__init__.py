"""Entry points of the lab's vLLM."""
