"""The address of a module's jar, as the image of a container has it, and the version that it says.

A version stands at the end, behind ``#bizVersion=``, or in the name of the jar, as Maven writes it:
``NAME-VERSION.jar``, with the classifier ``ark-biz`` of SOFAArk's plug-in or without. A fragment is for the reader of
a URL and never sent to a server (RFC 3986, 3.5); ours is not sent to the base either, and a query is never touched.
"""

import re
from urllib.parse import unquote

_FRAGMENT = "#bizVersion="
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_CLASSIFIER = "-ark-biz"
_VERSION = re.compile(r"-([0-9].*)")
_SNAPSHOT = re.compile(r"-[0-9]{8}\.[0-9]{6}-[0-9]+$")
"""What a Maven repository writes for SNAPSHOT into the names of files; the jar's manifest does not have it."""


def is_url(image: str) -> bool:
    """Return whether an image is a URL. A reference into a registry never is: behind its colons there is no slash."""
    return _SCHEME.match(image) is not None


def url(image: str) -> str:
    """Return the address that a base gets: the image without the fragment that names the version."""
    return image.partition(_FRAGMENT)[0]


def version(image: str, name: str) -> str:
    """Return the version that the image of the module of that name says, empty when it says none."""
    if not is_url(image):
        return ""
    address, fragment, said = image.partition(_FRAGMENT)
    return unquote(said) if fragment else _of_file(address, name)


def _of_file(address: str, name: str) -> str:
    path = re.split("[?#]", address, maxsplit=1)[0]
    file = unquote(path.rpartition("/")[2])
    if not file.endswith(".jar"):
        return ""
    words = file.removesuffix(".jar").removesuffix(_CLASSIFIER)
    found = _VERSION.search(words[len(name) :] if words.startswith(f"{name}-") else words)
    return _SNAPSHOT.sub("-SNAPSHOT", found[1]) if found else ""
