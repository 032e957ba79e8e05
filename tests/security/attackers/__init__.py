"""Attacks, for tests and benchmarks alike."""
