# SPDX-License-Identifier: Apache-2.0
"""Estimate what a run takes, in calls, tokens, money and time, from a sample of its requests.

A sample that was asked says what its answers took. Without a server tokens are those of the prompts, at four
characters each.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from quorum.bulk.spent import money, rounded
from quorum.deployment.schema import Deployment, MemberSpec
from quorum.records import Record
from quorum.tasks.prompt import build_prompt
from quorum_contract import Spent

SAMPLE = 8
"""Requests that are asked first, at least, to see what one takes."""
PROMPTS = 64
"""Requests whose prompts are built, to see how long they are."""
_CHARS_PER_TOKEN, _FEWEST = 4.0, 2.5
"""Of usual text, and of JSON with many quotes, for which a limit of tokens must not be too low."""
_WITHOUT_PROMPT = frozenset({"replay", "catalogue", "encoder"})
_LIMITS = ("max_new_tokens", "max_tokens")
_HOUR_S, _LONG_S = 3600, 5400
# Student's t for 95 %, of samples of 2, 3, ...; of more than 30 that of 31 is hardly too large.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


class Request(NamedTuple):
    """A request of a run: a text, and what is asked about it."""

    text: str
    category: str
    attributes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Range(Record):
    """An estimated total, with its 95 % interval; of a sample of one there is none: both ends are None."""

    low: float | None
    middle: float
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected(Record):
    """About what the requests of a run take.

    Attributes:
        requests: Their number.
        sampled: Requests that were asked for it; 0: none, and tokens are those of prompts.
        llms: Members with a prompt.
        calls: Of all members.
        prompt_tokens: Of all prompts; None: not known, or no member has a prompt.
        answer_tokens: Of all their answers; None: as above.
        cost: In the currency of the prices; None: not known.
        seconds: At the concurrency of the run, by the latency of the sample; None: nothing was asked.
        remarks: What would go wrong.
    """

    requests: int
    sampled: int = 0
    llms: int = 0
    calls: Range | None = None
    prompt_tokens: Range | None = None
    answer_tokens: Range | None = None
    cost: Range | None = None
    seconds: Range | None = None
    remarks: tuple[str, ...] = ()


class Sample(NamedTuple):
    """What some requests of a run took: seconds to each answer, and usage where the server says it."""

    latencies_s: Sequence[float] = ()
    spent: Sequence[Spent] = ()


def sample_size(concurrency: int) -> int:
    """Requests to ask first: twice those in flight, so that they wait for each other as later ones do."""
    return max(SAMPLE, 2 * concurrency)


def sample_of(requests: Sequence[Any], size: int) -> list[int]:
    """Numbers of requests drawn at random, the same each time."""
    return sorted(random.Random(0).sample(range(len(requests)), min(size, len(requests))))


def expect(
    deployment: Deployment,
    requests: Sequence[Request],
    answer_of: Callable[[Request], str],
    sample: Sample,
    concurrency: int,
    of: int | None = None,
) -> Expected:
    """Estimate what requests take.

    Args:
        deployment: That is served.
        requests: All requests of the run, or some that are drawn at random.
        answer_of: What an LLM may write to a request, for its length.
        sample: What some of them, drawn at random, took.
        concurrency: Requests in flight.
        of: How many requests the run has; None: these.
    """
    count = len(requests) if of is None else of
    if not requests:
        return Expected(requests=0)
    seconds = None
    if sample.latencies_s:
        seconds = total(sample.latencies_s, count, 1 / min(concurrency, count))
    asked, spent = [requests[n] for n in sample_of(requests, PROMPTS)], sample.spent
    members = [m for m in deployment.members if m.runtime not in _WITHOUT_PROMPT]
    by_request = [[_tokens_of(deployment, request, m) for m in members] for request in asked]
    answers = [_tokens(answer_of(request)) for request in asked]
    prompt_tokens = _sum_of([s.prompt_tokens for s in spent], count)
    answer_tokens = _sum_of([s.answer_tokens for s in spent], count)
    if members and prompt_tokens is None:
        prompt_tokens = total([sum(prompts) for prompts in by_request], count)
        answer_tokens = total(answers, count, len(members))
    pairs = zip(by_request, answers, strict=True)
    guesses = [_guessed_cost(deployment, members, prompts, answer) for prompts, answer in pairs]
    return Expected(
        requests=count,
        sampled=len(spent),
        llms=len(members),
        calls=_sum_of([s.calls for s in spent], count) or total([len(deployment.members)] * 2, count),
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
        cost=_sum_of([s.cost for s in spent] if spent else guesses, count),
        seconds=seconds,
        remarks=tuple(_too_long(members, max(answers))),
    )


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


def parts_in_words(expected: Expected, currency: str = "") -> list[str]:
    """An estimate for people, without its number of requests."""
    parts = []
    if expected.sampled and expected.calls:
        parts.append(f"{_about(expected.calls)} calls")
    if expected.prompt_tokens and expected.answer_tokens:
        llms = "1 LLM" if expected.llms == 1 else f"{expected.llms} LLMs"
        of = f" of {llms}" if expected.llms else ""
        prompts, answers = _about(expected.prompt_tokens), _about(expected.answer_tokens)
        parts.append(f"{prompts} prompt tokens and {answers} answer tokens{of}")
    if expected.cost:
        parts.append(f"cost about {money(expected.cost.middle, currency)}{_ends(expected.cost)}")
    if expected.seconds:
        unit, each = ("h", 1 / _HOUR_S) if expected.seconds.middle >= _LONG_S else ("s", 1.0)
        parts.append(f"{_about(expected.seconds, each)} {unit} by the first requests")
    return parts


def _about(found: Range, factor: float = 1.0) -> str:
    return f"about {rounded(found.middle * factor)}{_ends(found, factor)}"


def _ends(found: Range, factor: float = 1.0) -> str:
    if found.low is None or found.high is None or found.low == found.high:
        return ""
    return f" ({rounded(found.low * factor)} to {rounded(found.high * factor)})"


def _sum_of(sample: Sequence[float | None], of: int) -> Range | None:
    """The total; None where a number of the sample is not known."""
    known = [number for number in sample if number is not None]
    return total(known, of) if known and len(known) == len(sample) else None


def _tokens_of(deployment: Deployment, request: Request, member: MemberSpec) -> float:
    text, category, attributes = request
    return _tokens(build_prompt(deployment.catalogue(), member.prompt, text, category, attributes))


def _guessed_cost(
    deployment: Deployment, members: Sequence[MemberSpec], prompts: Sequence[float], answer: float
) -> float | None:
    """What an answer costs by its prompts and the length of an answer; None where that has no price."""
    tokens = {m.name: Spent(1, prompt, answer, 0, None) for m, prompt in zip(members, prompts, strict=True)}
    cost = 0.0
    for name, price in deployment.prices.items():
        own = price and price.of(tokens.get(name, Spent(1, None, None, None, None)))
        if own is None:
            return None
        cost += own
    return cost


def _too_long(members: Sequence[MemberSpec], answer_tokens: float) -> list[str]:
    remarks = []
    for member in members:
        options = msgspec.to_builtins(member.options)
        limit = next((options[name] for name in _LIMITS if options.get(name)), None)
        longest = answer_tokens * _CHARS_PER_TOKEN / _FEWEST
        if limit is not None and longest > limit:
            remarks.append(
                f"{member.name}: answers take up to about {longest:.0f} tokens, its limit is {limit}"
            )
    return remarks


def _tokens(text: str) -> float:
    return len(text) / _CHARS_PER_TOKEN
