# SPDX-License-Identifier: Apache-2.0
"""Estimate what a run of judging takes, from a sample of its requests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields

from quorum.bulk.estimate import Expected, Request, Sample, expect, parts_in_words
from quorum.bulk.judging.requests import Asked
from quorum.deployment.schema import Deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate(Expected):
    """What is left to judge, and about what it takes.

    Attributes:
        pairs: Pairs to judge.
    """

    pairs: int


def estimate(deployment: Deployment, requests: Sequence[Asked], sample: Sample, concurrency: int) -> Estimate:
    """Estimate by the prompts of a sample, and by what those took that were asked."""
    default = deployment.catalogue().default
    values = default.values if default else ("",)
    longest = max(values, key=len)

    def answer_of(request: Request) -> str:
        return json.dumps(dict.fromkeys(request.attributes, longest), ensure_ascii=False)

    asked = [Request(a[0].text, a[0].category, [pair.keyphrase for pair in a]) for a in requests]
    found = expect(deployment, asked, answer_of, sample, concurrency)
    figures = {field.name: getattr(found, field.name) for field in fields(found)}
    figures["remarks"] = tuple(
        f"{remark}: ask fewer keyphrases with --per-request, or raise the limit, as what is cut off is lost"
        for remark in found.remarks
    )
    return Estimate(pairs=sum(map(len, requests)), **figures)


def in_words(expected: Estimate, currency: str = "") -> str:
    """An estimate for people."""
    first = f"{expected.pairs} pairs in {expected.requests} requests"
    return "; ".join([first, *parts_in_words(expected, currency)])
