"""Tensors in files: safetensors, LoRA adapters, the merge, a model directory's small files."""
