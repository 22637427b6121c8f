"""An engine as a service job of Slurm, followed through requeues."""
