"""Scheduler and workload controllers of the embedded cluster."""
