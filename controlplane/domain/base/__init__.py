"""Decisions about one base: its Node, its modules, its Pods."""
