"""Whatever Apprise can notify: chats, mail, pagers. The library blocks, so that each hook has a thread.

It is imported when a hook needs it, as it is large.
"""

import difflib
import logging
import threading
from typing import Self

from controlplane.app.ports import Undelivered
from controlplane.domain.reports import Report
from controlplane.reports.neutral import neutral
from service.worker import Worker

WITHIN = 25.0
LONGEST = 4000
"""Characters of a body; services cut further by themselves."""
LONGEST_TITLE = 200


class Apprise:
    """One service. Its redirects are not followed."""

    kind = "apprise"

    def __init__(self, url: str, name: str) -> None:
        """Raises ValueError if Apprise cannot work with the URL; the message says why, without it."""
        import apprise

        # What it says of a delivery is taken up by _Said, and logged once instead of each time.
        logger = logging.getLogger("apprise")
        logger.setLevel(logging.WARNING)
        logger.propagate = False
        logger.addHandler(logging.NullHandler())
        asset = apprise.AppriseAsset(
            app_id="ModuleController", app_desc="Koupleless Module Controller", http_redirects=False
        )
        service = apprise.Apprise.instantiate(url, asset=asset)
        if service is None:
            raise ValueError(_why(url))
        self.name = name
        self._service = service
        self._worker = Worker(f"apprise-{name}")

    async def send(self, report: Report) -> None:
        """Deliver one report; raises Undelivered."""
        title = neutral(f"{report.event} {report.result}")[:LONGEST_TITLE]
        try:
            why = await self._worker.call(lambda: self._notify(title, body(report)), within=WITHIN)
        except TimeoutError as error:  # also while the message before has not come to an end
            raise Undelivered(str(error) or f"no answer within {WITHIN:g} s", again=True) from error
        if why is not None:
            raise Undelivered(why, again=True)

    def _notify(self, title: str, text: str) -> str | None:
        """Return why it failed, None when it did not; runs in a thread."""
        with _Said() as said:
            delivered = self._service.notify(body=text, title=title, body_format="text")
        return None if delivered else said.last or "the service did not take it"


class _Said(logging.Handler):
    """What Apprise logs in this thread; it masks secrets itself."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""
        self._thread = threading.get_ident()

    def __enter__(self) -> Self:
        logging.getLogger("apprise").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("apprise").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.last = record.getMessage()[:200]


def body(report: Report) -> str:
    """Return the plain text of a message: what happened, then the fields."""
    fields = {"code": report.code, "scene": report.scene, "trace": report.trace_id, **report.labels}
    lines = [report.message[:LONGEST], "", *(f"{name}: {value}" for name, value in fields.items() if value)]
    return "\n".join(map(neutral, lines))[:LONGEST]


def _why(url: str) -> str:
    import apprise

    scheme = url.partition("://")[0].lower()
    known = {"http", "https"}
    for service in apprise.Apprise().details()["schemas"]:
        known |= {str(name) for name in (*(service["protocols"] or ()), *(service["secure_protocols"] or ()))}
    if scheme in known:
        return f"not what Apprise needs for {scheme}://; a part is missing or wrong, see its page on that service"
    close = difflib.get_close_matches(scheme, sorted(known), n=1)
    return f"there is no service {scheme}://" + (f"; did you mean {close[0]}://?" if close else "")
