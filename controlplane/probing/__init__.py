"""Probes of modules on the wire."""
