"""One client of the Kubernetes API, and what the program reads of a cluster with it."""
