"""The lab's vLLM as a Python package: the module that serves, and nothing else."""
