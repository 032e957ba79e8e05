"""Failures and events for hooks and trackers."""
