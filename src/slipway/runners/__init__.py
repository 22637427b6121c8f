"""Where a job runs: one protocol; a process, a container or a Slurm job behind it."""
