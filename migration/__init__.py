"""Moves a service between VMs and pods, step by step, each step only where the mesh itself speaks for it.

`decision` decides, `in_force` and `endpoints` and `counters` read what Kubernetes and Envoy say, `reader` asks them.
"""
