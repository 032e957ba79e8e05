"""What a JVM does with module URLs, and its exceptions as arklet words them: class names, messages, long stack traces.

Nothing is fetched. What is behind a URL is said by its fragment, as Jar.parse reads it; without one the jar is the
module that was asked for. A host under .invalid cannot be resolved.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Self
from urllib.parse import unquote, urlsplit

_ARKLET = "com.alipay.sofa.koupleless.arklet.core"
_REFUSED = f"{_ARKLET}.common.exception.CommandValidationException"
_WRAPPED = f"{_ARKLET}.common.exception.ArkletRuntimeException"
_REFLECTED = "java.lang.reflect.InvocationTargetException"

_FRAMES = (
    f"{_ARKLET}.command.CommandServiceImpl.process(CommandServiceImpl.java:180)",
    f"{_ARKLET}.api.tunnel.http.netty.NettyHttpServer$NettyHttpHandler.channelRead0(NettyHttpServer.java:169)",
    *["io.netty.channel.AbstractChannelHandlerContext.invokeChannelRead(AbstractChannelHandlerContext.java:444)"] * 20,
    "java.lang.Thread.run(Thread.java:750)",
)
"""The same for every exception: what matters is that traces are as long as real ones."""

_SCHEMES = frozenset({"http", "https", "file", "jar", "ftp"})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_NAMED = re.compile(r"(?P<name>.+?)-(?P<version>\d[^/]*?)(?:-ark-biz)?\.jar")


class JavaError(Exception):
    """An exception in the simulated JVM.

    reason is what follows "Internal Error: " in the answer, trace the whole stack trace, detail the message of the
    exception without its class, which is null where it has none.
    """

    def __init__(self, reason: str, trace: str, detail: str = "null") -> None:
        super().__init__(reason)
        self.reason = reason
        self.trace = trace
        self.detail = detail


def invalid(message: str) -> JavaError:
    """Return the refusal of a command's parameters."""
    return JavaError(message, _block(f"{_REFUSED}: {message}"))


def null_pointer() -> JavaError:
    """Return what parameters of a wrong type lead to."""
    return JavaError("null", _block("java.lang.NullPointerException"))


def thrown(exception: str, message: str) -> JavaError:
    """Return an exception that a command ran into, wrapped as arklet wraps it."""
    cause = f"{exception}: {message}"
    return JavaError(cause, _trace(_block(f"{_WRAPPED}: {cause}"), _block(cause)), message)


def path_taken(path: str) -> JavaError:
    """Return what a web module runs into whose web context path another one has."""
    cause = f"java.lang.IllegalArgumentException: Child name [{path}] is not unique"
    server = "org.springframework.context.ApplicationContextException: Unable to start web server; nested exception is "
    return _main_threw(_block(server + cause), _block(cause))


def start_failed(identity: str, main_class: str) -> JavaError:
    """Return what a module's main method threw, and arklet called it by reflection: the reason is at the end alone."""
    frame = f"{main_class}.main({main_class.rpartition('.')[2]}.java:15)"
    return _main_threw(_block(f"java.lang.IllegalStateException: module {identity} failed to start", [frame]))


def _main_threw(*causes: str) -> JavaError:
    return JavaError(_REFLECTED, _trace(_block(f"{_WRAPPED}: {_REFLECTED}"), _block(_REFLECTED), *causes))


def _trace(*blocks: str) -> str:
    return "Caused by: ".join(blocks)


def _block(first: str, frames: Sequence[str] = _FRAMES) -> str:
    return first + "\n" + "".join(f"\tat {frame}\n" for frame in frames)


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
    def parse(cls, text: str) -> Self:
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
