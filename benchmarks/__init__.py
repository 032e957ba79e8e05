"""Measurements against real servers, printed beside the targets."""
