"""Targets: what operators write into annotations and settings."""

from datetime import UTC, datetime
from urllib.parse import urlsplit

from controlplane.cluster import fields
from controlplane.domain.objects import NotUnderstood
from controlplane.domain.revisions import Releasing
from controlplane.domain.workloads import batches, release
from controlplane.kubelet.logtemplate import LogTemplate, WrongOption, WrongTemplate
from tests.fuzz import inputs
from tests.fuzz.target import Target


def _release(data: bytes) -> object:
    """Read how far a release in batches is, and the settings that a person wrote beside it."""
    found = release.read(data.decode(errors="replace"))
    assert release.read(release.written(found)) == found
    annotations = {name: str(value) for name, value in (fields.parsed(data) or {}).items()}
    chosen = batches.settings(Releasing(annotations, revision=1))
    targets = () if isinstance(chosen, NotUnderstood) else chosen.targets(7)
    assert not targets or targets[-1] == 7
    return found, chosen, targets


def _log_template(data: bytes) -> object:
    """Fill a template, in the first line, with what a base and a reader say, in the second."""
    template, _, said = data.decode(errors="replace").partition("\n")
    found = LogTemplate(template)
    options = {"sinceTime": said, "tailLines": said} if said[:1].isdigit() else {}
    url = found.url(dict.fromkeys(("host", "ip", "pod"), said), options, datetime(2026, 1, 1, tzinfo=UTC))
    assert urlsplit(url)[:2] == urlsplit(template.partition("{")[0])[:2]
    return url


_BATCHES = {"batches": "3", "first-batch": "10%", "pause-between": "60s", "confirm": "each"}
_STATE = {"stable": "a", "number": 2, "hash": "b", "batch": 1, "opened": "2026-01-01T00:00:00Z", "tolerated": 1}

TARGETS = (
    Target(
        "release-in-batches",
        ("controlplane.domain.workloads.release",),
        inputs.documents([_STATE, {f"module.koupleless.io/{name}": value for name, value in _BATCHES.items()}]),
        _release,
    ),
    Target(
        "log-template",
        ("controlplane.kubelet.logtemplate",),
        inputs.texts(
            [b"https://logs.example:1/{host}?s={since}&t={tail}\nshop-1", b"http://l/{ip}\n2026-01-01T00:00:00Z"],
            [b"{", b"}", b"{pod}", b"@", b"/..", b"//", b"%2f", b"?", b"#", b"!r}", b":>9}", b"\xff", b"\\"],
        ),
        _log_template,
        (WrongTemplate, WrongOption),
    ),
)
