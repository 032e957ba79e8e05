"""The gRPC side of every gateway: streams to the control plane replicas.

Shared by the tunnels, and the only part of the gateways that knows grpc and the
generated messages. ``session.Session`` is the way in; ``messages`` is what goes
through it.
"""
