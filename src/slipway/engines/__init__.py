"""Runtime bundles: built, keyed, served and asked; one sub-room a driver."""
