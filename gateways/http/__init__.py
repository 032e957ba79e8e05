"""The HTTP tunnel: heartbeats and baseline questions from bases in, arklet commands to bases out."""
