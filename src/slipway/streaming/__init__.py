"""One pass over a checkpoint in bounded memory: read, merge, quantize, write, resume."""
