"""The chain before it runs: the call of each stage, what is reused and why not, what it takes, what it replaces."""
