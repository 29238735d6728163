# SPDX-License-Identifier: Apache-2.0
"""Tokens per second: of prompts and of generated text over all member calls, by the window; higher is better.

Counted with the member's own tokeniser where it has one; members that replay have no tokens.
"""

from __future__ import annotations

from quorum_bench.measure import Run
from quorum_bench.metrics.base import Metric, NoValue


def _total(run: Run, generated: bool) -> float:
    if not run.tokens:
        raise NoValue("tokens are not known: these members have no tokeniser")
    asked = {member: run.step(member).count for member in run.members}
    per = {m: t.generated if generated else t.prompt for m, t in run.tokens.items()}
    return sum(asked[m] * per[m] for m in per) / run.seconds


def _prompt(run: Run) -> float:
    return _total(run, generated=False)


def _generated(run: Run) -> float:
    return _total(run, generated=True)


METRICS = (
    Metric("prompt_tokens", "prompt tokens", "tokens/s", "higher", _prompt, "prompt tokens of all calls / s"),
    Metric("output_tokens", "output tokens", "tokens/s", "higher", _generated, "generated tokens / s"),
)
