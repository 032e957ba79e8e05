"""The service for gateways."""
