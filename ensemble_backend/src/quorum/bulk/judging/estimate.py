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
# Student's t for 95 %, by the size of the sample.
_T = {2: 12.7, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.37}
_MANY_T = 2.0


@dataclass(frozen=True, slots=True)
class Range(Record):
    """An estimated total, with its 95 % interval."""

    low: float
    middle: float
    high: float


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
        cost: Always None: no prices are known.
        remarks: What would go wrong.
    """

    pairs: int
    requests: int
    llms: int = 0
    prompt_tokens: Range | None = None
    answer_tokens: Range | None = None
    seconds: Range | None = None
    cost: None = None
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
        total(answers, len(requests), len(members)), seconds, None, tuple(remarks),
    )  # fmt: skip


def total(sample: Sequence[float], of: int, factor: float = 1.0) -> Range:
    """The sum of ``of`` numbers of which some are a random sample, times ``factor``."""
    mean = statistics.fmean(sample)
    spread = math.inf if len(sample) == 1 < of else 0.0
    if 1 < len(sample) < of:
        unseen = math.sqrt(1 - len(sample) / of)
        spread = _T.get(len(sample), _MANY_T) * statistics.stdev(sample) / math.sqrt(len(sample)) * unseen
    if math.isinf(spread):
        return Range(0.0, mean * of * factor, math.nan)
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
    interval = "" if found.low == found.high else f" ({found.low:.3g} to {found.high:.3g})"
    return f"about {found.middle:.3g}{interval}"


def _prompt(catalogue: Catalogue, asked: Asked, style: Style) -> str:
    names, first = [pair.keyphrase for pair in asked], asked[0]
    return build_prompt(catalogue, style, first.text, first.category, names)


def _answer(catalogue: Catalogue, asked: Asked) -> str:
    values = catalogue.default.values if catalogue.default else ("",)
    longest = max(values, key=len)
    return json.dumps({pair.keyphrase: longest for pair in asked}, ensure_ascii=False)


def _tokens(text: str) -> float:
    return len(text) / _CHARS_PER_TOKEN
