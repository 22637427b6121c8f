"""The proxy that holds the address of clients."""
