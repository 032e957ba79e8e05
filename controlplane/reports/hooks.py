"""The list of hooks as an operator writes it: URLs separated by semicolons.

http and https are robots of DingTalk, as with the Go Module Controller V2, or
whatever takes the same message; every other scheme is one of Apprise.
"""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from controlplane.app.ports import Hook
from controlplane.reports.apprises import Apprise, UnknownService
from controlplane.reports.dingtalk import DingTalk
from controlplane.reports.posting import Poster

MOST = 32
_DINGTALK_HOST = "oapi.dingtalk.com"


class WrongHooks(ValueError):
    """The list cannot be used; the message says which hook, why and what to do, with secrets masked."""


def parse(text: str, poster: Poster) -> list[Hook]:
    """Return the hooks; raises WrongHooks."""
    urls = [url for part in text.split(";") if (url := part.strip())]
    if len(urls) > MOST:
        raise WrongHooks(f"{len(urls)} hooks are more than {MOST}")
    if len(set(urls)) < len(urls):
        raise WrongHooks("a hook is named twice: it would get every report twice")
    return [_hook(url, f"hook {number} ({masked(url)})", poster) for number, url in enumerate(urls, 1)]


def check_url(url: str) -> None:
    """Raise ValueError, without the URL in it, when it is no http or https URL that can be called."""
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError("there is a blank in it; hooks are separated by ;")
    parts = urlsplit(url)
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


def masked(url: str) -> str:
    """Return scheme and host of an http URL, else the scheme: what follows may be a secret."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "***"
    if scheme not in ("http", "https"):
        return f"{scheme[:40]}://***"
    host = rest.partition("/")[0].partition("?")[0].rpartition("@")[2]
    return f"{scheme}://{host}/***"


def problem(text: str) -> str | None:
    """Say what is wrong with a list of hooks, None when nothing is."""
    try:
        parse(text, Poster())
    except WrongHooks as error:
        return str(error)
    return None


def _hook(url: str, name: str, poster: Poster) -> Hook:
    try:
        scheme, separator, _ = url.partition("://")
        if not separator:
            raise ValueError("it is no URL")
        if scheme.lower() not in ("http", "https"):
            return Apprise(url, name)
        check_url(url)
        return DingTalk(url, name, poster)
    except UnknownService as error:
        raise WrongHooks(f"{name}: {error}") from error
    except ValueError as error:
        raise WrongHooks(f"{name}: {error}") from None
