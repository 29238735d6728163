# SPDX-License-Identifier: Apache-2.0
"""LLM calls, tokens and cost of an answer.

Calls equal the number of members where all are asked; a channel that stops early needs fewer. Answers of
quorum say their calls, and their cost by the prices of the deployment; calls of other targets are counted by
step. Tokens are counted with the member's own tokeniser where it has one; members that replay have none. With
``--prices`` the cost is the machine for as long as the answers take at the throughput of the run, plus the
tokens of all calls.
"""

from __future__ import annotations

from quorum_bench.measure import Run
from quorum_bench.metrics.base import Metric, NoValue, per_1000_answers


def _calls(run: Run) -> float:
    if run.calls is not None:
        return run.calls
    if not run.last.steps:
        raise NoValue("the target keeps no statistics by member")
    if not run.answered:
        raise NoValue("nothing was answered")
    return sum(run.step(member).count for member in run.members) / run.answered


def _tokens(run: Run, generated: bool) -> float:
    if not run.tokens:
        raise NoValue("tokens are not known: these members have no tokeniser")
    asked = {member: run.step(member).count for member in run.members}
    per_call = {m: t.generated if generated else t.prompt for m, t in run.tokens.items()}
    return sum(asked[m] * per_call[m] for m in per_call) / run.seconds


def _prompt(run: Run) -> float:
    return _tokens(run, generated=False)


def _generated(run: Run) -> float:
    return _tokens(run, generated=True)


def _cost(run: Run) -> float:
    if run.prices is None:
        if run.cost is not None:
            return 1000.0 * run.cost
        raise NoValue("no prices were given; see --prices, and `price` of members in deploy.yaml")
    machine = run.prices.machine_per_hour * run.seconds / 3600.0
    tokens = 0.0
    for member, (prompt, generated) in run.prices.tokens_per_million.items():
        if member in run.members:
            if member not in run.tokens:
                raise NoValue(f"tokens of {member} have a price, but their number is not known")
            count = run.tokens[member]
            tokens += run.step(member).count * (count.prompt * prompt + count.generated * generated) / 1e6
    return per_1000_answers(run, machine + tokens)


CALLS = Metric(
    "calls",
    "LLM calls per answer",
    "calls",
    "lower",
    _calls,
    "calls that answers state, else requests to members / answers",
)
PROMPT_TOKENS = Metric(
    "prompt_tokens", "prompt tokens", "tokens/s", "higher", _prompt, "prompt tokens of all calls / s"
)
OUTPUT_TOKENS = Metric(
    "output_tokens", "output tokens", "tokens/s", "higher", _generated, "generated tokens / s"
)
COST = Metric(
    "cost", "cost per 1 000 answers", "currency", "lower", _cost, "(machine time + tokens) at their prices"
)
