"""Decisions about which replica acts for a base."""
