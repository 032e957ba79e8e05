"""Figures from a program's /metrics: counters, and quantiles of histograms."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Self, TypeAlias

from prometheus_client.parser import text_string_to_metric_families

Labels: TypeAlias = frozenset[tuple[str, str]]

API_REQUESTS = "koupleless_api_requests_total"
WRITE_VERBS = frozenset({"create", "patch", "delete"})


@dataclass(frozen=True)
class Exposition:
    """Samples of one moment, or what was added between two."""

    samples: Mapping[tuple[str, Labels], float]

    def since(self, before: Self) -> Self:
        """Return what was added to every sample since an earlier moment of the same process."""
        return replace(self, samples={key: value - before.samples.get(key, 0.0) for key, value in self.samples.items()})

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Return sums of a counter by the values of some of its labels."""
        sums: defaultdict[tuple[str, ...], float] = defaultdict(float)
        for (sample, of), value in self.samples.items():
            if sample == name:
                metrics = dict(of)
                sums[tuple(metrics.get(label, "") for label in labels)] += value
        return dict(sums)

    def count(self, histogram: str) -> float:
        """Return the number of observations."""
        return sum(self.by(f"{histogram}_count").values())

    def quantile(self, histogram: str, share: float, of: Mapping[str, str] = MappingProxyType({})) -> float:
        """Return a quantile, taken to be spread evenly within its bucket, as PromQL does.

        of narrows it to some labels; nan without observations; the highest bound where it lies beyond all bounds.
        """
        metrics = self.by(f"{histogram}_bucket", "le", *of)
        buckets = sorted((float(le), count) for (le, *rest), count in metrics.items() if rest == [*of.values()])
        if not buckets or not buckets[-1][1]:
            return math.nan
        rank, lower, below = share * buckets[-1][1], 0.0, 0.0
        for bound, count in buckets:
            if count >= rank and count > below:
                if math.isinf(bound):
                    return lower
                return lower + (bound - lower) * (rank - below) / (count - below)
            lower, below = bound, count
        return lower

    def writes(self) -> dict[tuple[str, str], float]:
        """Return the requests that changed something at the API server, by verb and resource."""
        requests = self.by(API_REQUESTS, "verb", "resource")
        return {(v, r): count for (v, r), count in sorted(requests.items()) if v in WRITE_VERBS and count}

    def reads(self) -> float:
        """Return the number of requests that read: get, list and watch."""
        return sum(count for (verb,), count in self.by(API_REQUESTS, "verb").items() if verb not in WRITE_VERBS)


def total(expositions: Sequence[Exposition]) -> Exposition:
    """Return the sums of all samples."""
    sums: defaultdict[tuple[str, Labels], float] = defaultdict(float)
    for each in expositions:
        for key, value in each.samples.items():
            sums[key] += value
    return Exposition(sums)


def parse(text: str) -> Exposition:
    """Return the samples of a reply of /metrics; raises ValueError where it is none."""
    return Exposition(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    )
