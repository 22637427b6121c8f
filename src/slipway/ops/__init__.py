"""The machine and what runs on it: services, doctor, status, preflight."""
