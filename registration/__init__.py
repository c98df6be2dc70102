"""How far each VM has come into the mesh, read from the mesh itself.

Used three ways with the same code: by the program for its `registration` output, by `make status`, and by `make up`
for its exit code. Nothing here knows Pulumi.
"""
