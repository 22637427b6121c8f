"""What the lab's `vllm`, `trtllm-serve` and `trtllm-build` share: contracts, weights, caches, and the server."""
