"""What stands in a run's way, before any work: refusals by the config alone, and a table of what every machine says."""
