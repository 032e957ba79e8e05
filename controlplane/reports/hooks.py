"""The list of hooks as an operator writes it: URLs separated by semicolons.

http and https are robots of DingTalk, as with the Go Module Controller V2, or
whatever takes the same message; every other scheme is one of Apprise. A hook that
cannot be used gets no reports; it keeps neither the other hooks nor the program
from working.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from controlplane.app.ports import Hook
from controlplane.reports.apprises import Apprise
from controlplane.reports.dingtalk import DingTalk
from controlplane.reports.posting import Poster

MOST = 32
_DINGTALK_HOST = "oapi.dingtalk.com"


@dataclass(frozen=True, slots=True)
class Unusable:
    """A hook or link that cannot be used, by its name with secrets masked, and why."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name} gets no reports: {self.why}"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a hook or link is, by its name with secrets masked; scheme is http or https."""

    name: str
    scheme: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks of a list."""

    usable: tuple[Hook, ...]
    unusable: tuple[Unusable, ...]


def parse(text: str, poster: Poster) -> Hooks:
    """Return the hooks of a list, each once."""
    usable: list[Hook] = []
    unusable: list[Unusable] = []
    urls = _urls(text)
    for number, url in enumerate(urls, 1):
        name = _name(number, url)
        try:
            if url in urls[: number - 1]:
                raise ValueError("it is named before, and would get every report twice")
            if len(usable) == MOST:
                raise ValueError(f"there can be no more than {MOST} hooks")
            usable.append(_hook(url, name, poster))
        except ValueError as error:  # UnknownService is one
            unusable.append(Unusable(name, str(error)))
    return Hooks(tuple(usable), tuple(unusable))


def check_url(url: str) -> None:
    """Raise ValueError, without the URL in it, when it is no http or https URL that can be called."""
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError("there is a blank in it; hooks are separated by ;")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("its host is no name and no address") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("it must begin with http:// or https://")
    if not parts.hostname:
        raise ValueError("it names no host")
    try:
        parts.port  # noqa: B018 - reading it is the check
    except ValueError:
        raise ValueError("its port is no number from 0 to 65535") from None
    if "://" in url.partition("://")[2].partition("?")[0]:
        raise ValueError("there are two URLs in it; hooks are separated by ;")
    if parts.hostname == _DINGTALK_HOST:
        if parts.scheme != "https" or parts.path != "/robot/send":
            raise ValueError(f"a robot's URL begins with https://{_DINGTALK_HOST}/robot/send?access_token=")
        if not any(parse_qs(parts.query).get("access_token", ())):
            raise ValueError("it has no access_token; copy the robot's Webhook as DingTalk shows it")


def http_targets(text: str) -> list[Target]:
    """Return where the hooks of a list are that are called by http or https, without those that cannot be used."""
    found = [target(_name(number, url), url) for number, url in enumerate(_urls(text), 1)]
    return [each for each in found if each is not None]


def target(name: str, url: str) -> Target | None:
    """Return where a URL leads, None when it cannot be called by http or https."""
    try:
        check_url(url)
    except ValueError:
        return None
    parts = urlsplit(url)
    return Target(name, parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))


def masked(url: str) -> str:
    """Return scheme and host of an http URL, else the scheme: what follows may be a secret."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "***"
    if scheme not in ("http", "https"):
        return f"{scheme[:40]}://***"
    host = rest.partition("/")[0].partition("?")[0].rpartition("@")[2]
    return f"{scheme}://{host}/***"


def _urls(text: str) -> list[str]:
    return [url for part in text.split(";") if (url := part.strip())]


def _name(number: int, url: str) -> str:
    return f"hook {number} ({masked(url)})"


def _hook(url: str, name: str, poster: Poster) -> Hook:
    """Return a hook; raises ValueError without the URL in it."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ValueError("it is no URL")
    if scheme.lower() not in ("http", "https"):
        return Apprise(url, name)
    check_url(url)
    return DingTalk(url, name, poster)
