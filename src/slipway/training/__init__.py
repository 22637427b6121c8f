"""Fine-tuning: the embedded trainer, `nemo` (the container's recipe and job), `tuning` (throughput search)."""
