"""Module URLs as a JVM takes them, and what the jar behind one would say of itself.

Nothing is fetched. What is behind a URL is said by its fragment, as ``Jar.parse`` reads it; without one the jar is the
module that was asked for. A host under .invalid cannot be resolved.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from urllib.parse import unquote, urlsplit

from simulatedbase.java import invalid, thrown

_SCHEMES = frozenset({"http", "https", "file", "jar", "ftp"})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_NAMED = re.compile(r"(?P<name>.+?)-(?P<version>\d[^/]*?)(?:-ark-biz)?\.jar")


class Flaw(Enum):
    """What is wrong with a jar."""

    NOT_FOUND = "not-found"
    """The server answers 404."""
    NOT_A_ZIP = "not-a-zip"
    NO_MODULE = "no-module"
    """A plain jar: its manifest names no module."""


@dataclass(frozen=True, slots=True)
class Jar:
    """Name, version and web context path as the manifest has them, each empty where it is not said; or a flaw."""

    name: str = ""
    version: str = ""
    path: str = ""
    flaw: Flaw | None = None

    @classmethod
    def parse(cls, text: str) -> Jar:
        """Read NAME:VERSION, NAME:VERSION:PATH (each may be empty) or the word for a flaw."""
        flaw = next((flaw for flaw in Flaw if flaw.value == text), None)
        name, _, rest = text.partition(":")
        version, _, path = rest.partition(":")
        return cls(flaw=flaw) if flaw is not None or not rest else cls(name, version, path)


def fetch(url: str, jars: Mapping[str, Jar]) -> Jar:
    """Do what java.net.URL and its stream would; raises JavaError for what they cannot open.

    jars are what is behind some URLs, instead of what a fragment says.
    """
    malformed = "java.net.MalformedURLException"
    scheme = _SCHEME.match(url)
    if scheme is None:
        raise thrown(malformed, f"no protocol: {url}")
    if scheme[1].lower() not in _SCHEMES:
        raise thrown(malformed, f"unknown protocol: {scheme[1].lower()}")
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        raise thrown(malformed, f"no protocol: {url}") from None
    if host.endswith(".invalid"):
        raise thrown("java.net.UnknownHostException", host)
    jar = jars.get(url) or Jar.parse(unquote(url.partition("#")[2]))
    if jar.flaw is Flaw.NOT_FOUND:
        raise thrown("java.io.FileNotFoundException", url)
    return jar


def opened(jar: Jar, name: str, version: str) -> Jar:
    """Return a jar that was asked for under a name and version, with all that it says; raises JavaError for none."""
    if jar.flaw is Flaw.NOT_A_ZIP:
        raise thrown("java.util.zip.ZipException", "zip END header not found")
    if jar.flaw is Flaw.NO_MODULE:
        raise thrown("java.lang.IllegalArgumentException", "Biz Name must not be empty!")
    jar = replace(jar, name=jar.name or name, version=jar.version or version)
    if not jar.name or not jar.version or ":" in jar.name or ":" in jar.version:
        raise thrown("java.lang.IllegalArgumentException", "Format of Biz Identity is error.")
    return jar


def named_by_file(url: str, jars: Mapping[str, Jar]) -> tuple[str, str]:
    """Return name and version for a request that gives neither, from a file name like biz1-0.0.1.jar."""
    fetch(url, jars)
    file = unquote(urlsplit(url).path.rpartition("/")[2])
    match = _NAMED.fullmatch(file)
    if match is None:
        raise invalid(f"refresh biz info from jar failed: {file}")
    return match["name"], match["version"]
