"""Connections to the control plane's gRPC: who the client is, and whether it talks to the right server."""
