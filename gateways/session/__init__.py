"""The gRPC side of every gateway: links to all control plane replicas.

Shared by the tunnels, and the only part of the gateways that knows grpc. ``links.ControlPlaneLinks`` is the way in.
"""
