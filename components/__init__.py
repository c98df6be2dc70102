"""Pulumi component resources, one a file: `XArgs` in, resources and outputs out; none reads configuration."""
