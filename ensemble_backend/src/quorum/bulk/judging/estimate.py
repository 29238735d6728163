# SPDX-License-Identifier: Apache-2.0
"""Estimate what a run of judging takes, from a sample of its requests."""

from __future__ import annotations

import json
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from quorum.bulk.judging.requests import Asked
from quorum.deployment.schema import Deployment
from quorum.records import Record
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.prompt import Style, build_prompt

SAMPLE = 8
"""Requests that are asked first, at least, to see how long one takes."""
_PROMPTS = 64
_CHARS_PER_TOKEN, _FEWEST = 4.0, 2.5
"""Of usual text, and of JSON with many quotes, for which a limit of tokens must not be too low."""
_WITHOUT_PROMPT = frozenset({"replay", "catalogue", "encoder"})
_LIMITS = ("max_new_tokens", "max_tokens")
# Student's t for 95 %, of samples of 2, 3, ...; of more than 30 that of 31 is hardly too large.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Range(Record):
    """An estimated total, with its 95 % interval; of a sample of one there is none: both ends are None."""

    low: float | None
    middle: float
    high: float | None


@dataclass(frozen=True, slots=True)
class Estimate(Record):
    """What is left to do, and about what it takes.

    Attributes:
        pairs: Pairs to judge.
        requests: Requests that ask them.
        llms: Members with a prompt.
        prompt_tokens: Of all prompts to these, at 4 characters a token; None: no member has a prompt.
        answer_tokens: Of all their answers; None: as above.
        seconds: At the concurrency of the run, by the latency of the sample; None: nothing was asked.
        remarks: What would go wrong.
    """

    pairs: int
    requests: int
    llms: int = 0
    prompt_tokens: Range | None = None
    answer_tokens: Range | None = None
    seconds: Range | None = None
    remarks: tuple[str, ...] = ()


def sample_size(concurrency: int) -> int:
    """Requests to ask first: twice those in flight, so that they wait for each other as later ones do."""
    return max(SAMPLE, 2 * concurrency)


def sample_of(requests: Sequence[Asked], size: int) -> list[int]:
    """Numbers of requests drawn at random, the same each time."""
    return sorted(random.Random(0).sample(range(len(requests)), min(size, len(requests))))


def estimate(
    deployment: Deployment, requests: Sequence[Asked], latencies_s: Sequence[float], concurrency: int
) -> Estimate:
    """Estimate tokens by the prompts of a sample, and time by the latencies of those that were asked."""
    pairs = sum(map(len, requests))
    members = [m for m in deployment.members if m.runtime not in _WITHOUT_PROMPT]
    seconds = None
    if latencies_s and requests:
        at_once = min(concurrency, len(requests))
        seconds = total(latencies_s, len(requests), 1 / at_once)
    if not members or not requests:
        return Estimate(pairs, len(requests), len(members), seconds=seconds)
    catalogue, sample = deployment.catalogue(), [requests[n] for n in sample_of(requests, _PROMPTS)]
    prompts = [sum(_tokens(_prompt(catalogue, asked, m.prompt)) for m in members) for asked in sample]
    answers = [_tokens(_answer(catalogue, asked)) for asked in sample]
    remarks = []
    for member in members:
        options = msgspec.to_builtins(member.options)
        limit = next((options[name] for name in _LIMITS if options.get(name)), None)
        longest = max(answers) * _CHARS_PER_TOKEN / _FEWEST
        if limit is not None and longest > limit:
            remarks.append(
                f"{member.name}: answers take up to about {longest:.0f} tokens, its limit is {limit}: ask"
                " fewer keyphrases with --per-request, or raise the limit, as what is cut off is lost"
            )
    return Estimate(
        pairs, len(requests), len(members), total(prompts, len(requests)),
        total(answers, len(requests), len(members)), seconds, tuple(remarks),
    )  # fmt: skip


def total(sample: Sequence[float], of: int, factor: float = 1.0) -> Range:
    """The sum of ``of`` numbers of which some are a random sample, times ``factor``."""
    mean, size, spread = statistics.fmean(sample), len(sample), 0.0
    if size == 1 < of:
        return Range(None, mean * of * factor, None)
    if size < of:
        unseen = math.sqrt(1 - size / of)
        t = _T[min(size - 2, len(_T) - 1)]
        spread = t * statistics.stdev(sample) / math.sqrt(size) * unseen
    return Range(max(0.0, mean - spread) * of * factor, mean * of * factor, (mean + spread) * of * factor)


def in_words(expected: Estimate) -> str:
    """An estimate for people."""
    parts = [f"{expected.pairs} pairs in {expected.requests} requests"]
    if expected.prompt_tokens and expected.answer_tokens:
        llms = "1 LLM" if expected.llms == 1 else f"{expected.llms} LLMs"
        prompts, answers = _about(expected.prompt_tokens), _about(expected.answer_tokens)
        parts.append(f"{prompts} prompt tokens and {answers} answer tokens of {llms}")
    if expected.seconds:
        parts.append(f"{_about(expected.seconds)} s by the first requests")
    return "; ".join(parts)


def _about(found: Range) -> str:
    about = f"about {found.middle:.3g}"
    if found.low is None or found.high is None or found.low == found.high:
        return about
    return f"{about} ({found.low:.3g} to {found.high:.3g})"


def _prompt(catalogue: Catalogue, asked: Asked, style: Style) -> str:
    names, first = [pair.keyphrase for pair in asked], asked[0]
    return build_prompt(catalogue, style, first.text, first.category, names)


def _answer(catalogue: Catalogue, asked: Asked) -> str:
    values = catalogue.default.values if catalogue.default else ("",)
    longest = max(values, key=len)
    return json.dumps({pair.keyphrase: longest for pair in asked}, ensure_ascii=False)


def _tokens(text: str) -> float:
    return len(text) / _CHARS_PER_TOKEN
