"""A datacenter DGX behind Kubernetes: rendered, applied, switched, undone."""
