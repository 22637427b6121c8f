"""TensorRT-LLM with its PyTorch backend: `trtllm-serve` on a checkpoint."""
