"""Module URLs as a JVM takes them, and what the jar behind one would say of itself.

Nothing is fetched. A fragment NAME:VERSION stands for a manifest that names
another module than the request; a host under .invalid cannot be resolved.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from gateways.simulated_base.java import invalid, not_fetched, thrown

_SCHEMES = frozenset({"http", "https", "file", "jar", "ftp"})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_JAR = re.compile(r"(?P<name>.+?)-(?P<version>\d[^/]*?)(?:-ark-biz)?\.jar")


def open_url(url: str) -> None:
    """Do what java.net.URL and its stream would: raises JavaError for what they cannot open."""
    scheme = _SCHEME.match(url)
    if scheme is None:
        raise not_fetched("java.net.MalformedURLException", f"no protocol: {url}")
    if scheme[1].lower() not in _SCHEMES:
        raise not_fetched("java.net.MalformedURLException", f"unknown protocol: {scheme[1].lower()}")
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        raise not_fetched("java.net.MalformedURLException", f"no protocol: {url}") from None
    if host.endswith(".invalid"):
        raise not_fetched("java.net.UnknownHostException", host)


def manifest(url: str, name: str, version: str) -> tuple[str, str]:
    """Return name and version as the jar's manifest has them; raises JavaError when they are no identity."""
    _, _, fragment = url.partition("#")
    told_name, separator, told_version = unquote(fragment).partition(":")
    if separator:
        name, version = told_name, told_version
    if not name or not version or ":" in name or ":" in version:
        raise thrown("java.lang.IllegalArgumentException", "Format of Biz Identity is error.")
    return name, version


def named_by_file(url: str) -> tuple[str, str]:
    """Return name and version for a request that gives neither, from a file name like biz1-0.0.1.jar."""
    open_url(url)
    file = unquote(urlsplit(url).path.rpartition("/")[2])
    match = _JAR.fullmatch(file)
    if match is None:
        raise invalid(f"refresh biz info from jar failed: {file}")
    return match["name"], match["version"]
