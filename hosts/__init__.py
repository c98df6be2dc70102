"""What happens on a VM, decided by pure functions: the sidecar's files, and the scripts that put them there.

Nothing here knows Pulumi, reads a file of the user's or opens a connection, so all of it is tested as data.
"""
