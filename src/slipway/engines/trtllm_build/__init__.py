"""TensorRT-LLM 1.2: engine files of `trtllm-build`, built for one GPU and served."""
