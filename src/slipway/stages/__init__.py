"""One function a stage: typed artifacts and params in, one artifact out."""
