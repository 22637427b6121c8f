"""How a stage becomes an artifact: its contract, its process, reuse or run."""
