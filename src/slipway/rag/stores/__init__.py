"""Stores that an index is pushed to: a FAISS folder, Milvus, Elasticsearch, behind five verbs."""
