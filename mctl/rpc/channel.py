"""The channel to a server: TLS with the CA that was named, or plaintext."""

import grpc

from mctl.auth.access import ServerAccess

_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),  # retried by the client, where the request id is known to stay the same
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # A server lets a client without traffic ping every five minutes, not oftener.
    ("grpc.keepalive_time_ms", 330_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


def open_channel(access: ServerAccess) -> grpc.Channel:
    """Return a channel, which connects with its first call."""
    # With its scheme, so that no host is taken for one: unix:1 would be a file.
    target = f"dns:///{access.server}"
    if access.tls is None:
        return grpc.insecure_channel(target, options=_OPTIONS)
    tls = access.tls
    credentials = grpc.ssl_channel_credentials(tls.ca or None, tls.key or None, tls.certificate or None)
    named = (("grpc.ssl_target_name_override", access.server_name),) if access.server_name else ()
    return grpc.secure_channel(target, credentials, options=(*_OPTIONS, *named))
