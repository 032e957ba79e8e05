"""What every program of ours is as a process: settings, logs, health and metrics, shutdown."""
