"""Writes every Kubernetes object of a stack into files, for review and version control; needs no cluster."""
