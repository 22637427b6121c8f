"""A release as an OCI image layout: cut, signed, checked, carried."""
