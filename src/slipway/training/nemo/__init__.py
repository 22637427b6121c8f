"""NeMo AutoModel's recipe of a run, the job that executes it, and what it logs."""
