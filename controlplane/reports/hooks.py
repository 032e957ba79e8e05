"""The list of hooks as an operator writes it: URLs separated by semicolons.

http and https are robots of DingTalk, as with the Go Module Controller V2, or whatever takes the same message; every
other scheme is one of Apprise. A hook that cannot be used gets no reports; it keeps neither the other hooks nor the
program from working.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from prometheus_client import Gauge

from controlplane.app.ports import Hook
from controlplane.reports.apprises import Apprise
from controlplane.reports.posting import DingTalk, Poster
from service.secrets import register

MOST = 32
_DINGTALK_HOST = "oapi.dingtalk.com"
_HTTP = ("http", "https")

UNUSABLE = Gauge(
    "koupleless_reporting_unusable", "Hooks, links and files of the tracker that are set and cannot be used", ["kind"]
)
for _kind in ("hook", "link", "tracker"):
    UNUSABLE.labels(_kind)


@dataclass(frozen=True, slots=True)
class Destination:
    """A hook or link: its name with secrets masked, and why it cannot be used; problem is empty if it can."""

    name: str
    url: str = field(repr=False)
    problem: str = ""

    def __str__(self) -> str:
        return f"{self.name} gets no reports: {self.problem}"


class Hooks(NamedTuple):
    """The hooks of a list."""

    usable: list[Hook]
    unusable: list[Destination]


def parse(text: str, poster: Poster) -> Hooks:
    """Return the hooks of a list, each once."""
    found = Hooks([], [])
    seen: set[str] = set()
    for hook in destinations("hook", urls(text)):
        try:
            if hook.url in seen:
                raise ValueError("it is named before, and would get every report twice")
            if len(found.usable) == MOST:
                raise ValueError(f"there can be no more than {MOST} hooks")
            found.usable.append(_hook(hook, poster))
        except ValueError as error:
            found.unusable.append(Destination(hook.name, hook.url, str(error)))
        seen.add(hook.url)
    return found


def urls(text: str) -> list[str]:
    """Return the URLs of a list of hooks."""
    return [url for part in text.split(";") if (url := part.strip())]


def destinations(kind: str, urls: Iterable[str]) -> list[Destination]:
    """Return URLs with their names, judged as those that are called by http or https."""
    urls = tuple(urls)
    register(f"URLs of {kind}s", ";".join(urls))
    return [
        Destination(f"{kind} {number} ({masked(url)})", url, _problem(url)) for number, url in enumerate(urls, start=1)
    ]


def masked(url: str) -> str:
    """Return scheme and host of an http URL, else the scheme: what follows may be a secret."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "***"
    if scheme not in _HTTP:
        return f"{scheme[:40]}://***"
    host = rest.partition("/")[0].partition("?")[0].rpartition("@")[2]
    return f"{scheme}://{host}/***"


def _hook(hook: Destination, poster: Poster) -> Hook:
    """Return a hook; raises ValueError without the URL in it."""
    scheme, separator, _ = hook.url.partition("://")
    if not separator:
        raise ValueError("it is not a URL")
    if scheme.lower() not in _HTTP:
        return Apprise(hook.url, hook.name)
    if hook.problem:
        raise ValueError(hook.problem)
    return DingTalk(hook.url, hook.name, poster)


def _problem(url: str) -> str:
    """Return why a URL cannot be called by http or https, without it; empty if it can."""
    if any(character.isspace() or not character.isprintable() for character in url):
        return "there is a blank in it; hooks are separated by ;"
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it is the check
    except ValueError:
        return "its host is neither a name nor an address, or its port is not a number from 0 to 65535"
    if parts.scheme not in _HTTP:
        return "it must begin with http:// or https://"
    if not parts.hostname:
        return "it names no host"
    if "://" in url.partition("://")[2].partition("?")[0]:
        return "there are two URLs in it; hooks are separated by ;"
    if parts.hostname != _DINGTALK_HOST:
        return ""
    if parts.scheme != "https" or parts.path != "/robot/send":
        return f"a robot's URL begins with https://{_DINGTALK_HOST}/robot/send?access_token="
    if not any(parse_qs(parts.query).get("access_token", ())):
        return "it has no access_token; copy the robot's Webhook as DingTalk shows it"
    return ""
