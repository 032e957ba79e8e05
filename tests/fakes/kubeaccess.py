"""Access to an API server that the test sets, instead of one from a kubeconfig."""

from controlplane.kube.credentials import Credentials
from kubeaccess.access import Access


class FixedSource:
    """Implements ``kubeaccess.sources.CredentialSource``: gives each once, the last one again and again."""

    name = "a test"

    def __init__(self, *accesses: Access) -> None:
        self._accesses = list(accesses)

    async def fetch(self, *, renew: bool) -> Access:
        return self._accesses.pop(0) if len(self._accesses) > 1 else self._accesses[0]


def fixed(*accesses: Access) -> Credentials:
    """Return credentials with a given access; others follow when the server refuses it."""
    return Credentials(source=FixedSource(*accesses))
