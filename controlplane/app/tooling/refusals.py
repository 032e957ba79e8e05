"""What a tool's request is refused with."""


class RequestError(Exception):
    """A tool asked for something that cannot be done; field is the part of the request at fault, if one is."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Missing(RequestError):
    """There is no such thing."""


class NotAllowed(RequestError):
    """The state of things does not allow it; the message says what would."""
