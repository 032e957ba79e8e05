"""Deployments of modules: baselines and follower scaling."""
