"""Senders of probes: one for tests without probes, and one whose answers the test sets."""

from controlplane.domain.probes import Handler, Outcome


class NoProbes:
    """Implements ``controlplane.app.ports.ProbeSender`` where nothing is to be probed."""

    async def send(self, ip: str, handler: Handler) -> Outcome:
        raise AssertionError(f"{ip} is probed: {handler}")


class FakeProbes:
    """Implements ``controlplane.app.ports.ProbeSender``: ports answer what failures says, all others succeed."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Handler]] = []
        self.failures: dict[int, str] = {}

    async def send(self, ip: str, handler: Handler) -> Outcome:
        self.sent.append((ip, handler))
        message = self.failures.get(handler.port.number, "")
        return Outcome(not message, message)
