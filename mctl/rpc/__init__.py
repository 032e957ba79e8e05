"""The gRPC side of mctl: the only place that knows grpc."""
