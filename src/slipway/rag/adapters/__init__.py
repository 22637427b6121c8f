"""A sealed index as a retriever object of other frameworks; each is imported when it is asked for."""
