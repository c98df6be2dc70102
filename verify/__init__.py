"""Checks a mesh from inside: by requests of a pod that is removed afterwards, and of the stack's own VMs."""
