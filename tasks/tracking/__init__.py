"""What MLflow is given: one run a pipeline, one a stage, models by reference, the registry and its alias."""
