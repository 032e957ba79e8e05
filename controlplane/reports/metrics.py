"""Metrics of the ways out: what is set for them and cannot be used."""

from __future__ import annotations

from prometheus_client import Gauge

UNUSABLE = Gauge(
    "koupleless_reporting_unusable", "Hooks, links and files of the tracker that are set and cannot be used", ["kind"]
)
for _kind in ("hook", "link", "tracker"):
    UNUSABLE.labels(_kind)
