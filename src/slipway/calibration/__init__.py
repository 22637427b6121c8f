"""A network run one decoder layer at a time, and what its matmuls see."""
