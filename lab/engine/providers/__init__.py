"""The providers, a module a package of Pulumi's, and what they share."""
