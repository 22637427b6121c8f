"""Container images and engines: digests, registries, the docker connection, pulls, logs."""
