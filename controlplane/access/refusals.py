"""Why a caller is refused; each server says it in its own protocol."""


class AccessRefused(Exception):
    """A caller is refused: reason is a word for metrics, the message is for people."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Unauthenticated(AccessRefused):
    """Nobody knows who this is."""


class Forbidden(AccessRefused):
    """The caller is known and may not do this."""


class CannotReview(AccessRefused):
    """The API server could not be asked."""


class TooManyReviews(AccessRefused):
    """Too many callers are being looked up, or this peer showed too many wrong tokens."""

    retry_after = 1.0
    """Seconds."""
