"""Which of a deployment's variants answers a request: what is predicted, what is chosen, and who waits for whom."""
