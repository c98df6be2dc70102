"""Others that do the same job, each in its own way; what they share is that istioctl makes their files."""
