"""The benchmarks run to their end."""
