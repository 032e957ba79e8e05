"""The service for tools."""
