"""mctl, the command line client of the control plane's gRPC API."""
