# SPDX-License-Identifier: Apache-2.0
"""Write metrics as text: Prometheus' format 0.0.4, or OpenMetrics 1.0 for scrapers that ask for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from quorum.serving.counters import SUM, Series
from quorum.serving.families import FAMILIES, Family

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_TOTAL = "_total"


def exposition(numbers: Mapping[Series, float], open_metrics: bool = False) -> str:
    """The page; ``numbers`` are by family and label values, those of histograms by bound and for the sum."""
    of_family: dict[str, list[tuple[tuple[str, ...], float]]] = {}
    for (name, labels), number in numbers.items():
        of_family.setdefault(name, []).append((labels, number))
    lines: list[str] = []
    for name, family in FAMILIES.items():
        if samples := of_family.get(name):
            title = name.removesuffix(_TOTAL) if open_metrics else name
            lines += [f"# HELP {title} {_escaped(family.help)}", f"# TYPE {title} {family.kind}"]
            lines += _histogram(family, samples) if family.kind == "histogram" else _plain(family, samples)
    return "".join(f"{line}\n" for line in [*lines, *["# EOF"] * open_metrics])


def _plain(family: Family, samples: Iterable[tuple[tuple[str, ...], float]]) -> list[str]:
    return [_sample(family.name, family.labels, labels, number) for labels, number in samples]


def _histogram(family: Family, samples: Iterable[tuple[tuple[str, ...], float]]) -> list[str]:
    """Cumulative buckets, sum and count; buckets come in ascending order."""
    lines, totals = [], dict[tuple[str, ...], float]()
    for (*most, bound), number in samples:
        labels = tuple(most)
        if bound == SUM:
            lines.append(_sample(f"{family.name}_sum", family.labels, labels, number))
            lines.append(_sample(f"{family.name}_count", family.labels, labels, totals[labels]))
            continue
        totals[labels] = totals.get(labels, 0.0) + number
        bucket = f"{family.name}_bucket"
        lines.append(_sample(bucket, (*family.labels, "le"), (*labels, bound), totals[labels]))
    return lines


def _sample(name: str, names: tuple[str, ...], values: tuple[str, ...], number: float) -> str:
    labels = ",".join(f'{label}="{_escaped(value)}"' for label, value in zip(names, values, strict=True))
    return f"{name}{{{labels}}} {number!r}" if labels else f"{name} {number!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
