"""Modules released by Argo Rollouts."""
