"""Decisions about Deployments of modules."""
