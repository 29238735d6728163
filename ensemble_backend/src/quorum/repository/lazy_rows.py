# SPDX-License-Identifier: Apache-2.0
"""Choose the rows of members of a lazy channel: from ``deploy.yaml``, else by the weights it is pinned to."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from quorum.decision.answer_kinds import kind_in, parameters_for
from quorum.decision.cell import ANSWERED
from quorum.decision.evidence import Evidence
from quorum.decision.lazy import order
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.settle import is_settled
from quorum.decision.stopping import early_stop
from quorum.decision.weights import Weights, WeightsError, equal_weights
from quorum.deployment.price import WITHOUT_LLM, PriceSpec
from quorum.deployment.schema import Deployment, MemberSpec
from quorum.repository.store import Store
from quorum_contract import GATE, LAZY_OF, VOTE

Rows = list[list[str]]
"""Triton models of each row, in the order of asking."""
_PROMPT_TOKENS, _ANSWER_TOKENS, _SECONDS = 500, 50, 1.0
"""A call that prices are compared by."""
_FREE = 0.01
"""Cost of a member without a price, or of price 0, as a share of the lowest price; of one without an LLM also
where no member has a price."""
_VALUE, _TEXT = "blue", "shoe, blue, size 42"


def lazy_rows(spec: Deployment, channel: str, version: int, repository: Path) -> Rows:
    """The rows of a lazy channel that is pinned to a version of the weights in a repository.

    While its weights cannot be read, it keeps the rows that it has: a version that is damaged on disk may
    still serve from memory. Before there are weights, they are those of equal ones.
    """
    assert spec.lazy is not None
    models = spec.models()
    if spec.lazy.rows is not None:
        model_of = {member.name: model for model, members in models.items() for member in members}
        return [[*dict.fromkeys(model_of[name] for name in row)] for row in spec.lazy.rows]
    store = Store(repository)
    try:
        weights = store.weights(version)
        if weights.members != tuple(spec.member_names):
            raise WeightsError("they are for other members")
        return rows_by_weight(spec, weights.fitted(spec.catalogue().hashes))
    except WeightsError:
        rows = _rows_in(store.read_config(channel) or "")
        if sorted(model for row in rows for model in row) == sorted(models):
            return rows
        return rows_by_weight(spec, equal_weights(spec.member_names))


def rows_of_members(spec: Deployment, pins: Mapping[str, int], repository: Path) -> dict[str, Rows]:
    """Lazy channel -> the members that it asks, row by row, by the pins of the channels; else empty."""
    if spec.lazy is None:
        return {}
    names = {model: [member.name for member in members] for model, members in spec.models().items()}
    return {
        lazy: [
            [name for model in row for name in names[model]]
            for row in lazy_rows(spec, lazy, pins[channel], repository)
        ]
        for channel, lazy in LAZY_OF.items()
    }


def rows_by_weight(spec: Deployment, weights: Weights) -> Rows:
    """Rows by weight per cost of a call.

    The first row is the shortest that could settle an attribute if its members agreed; each further model is
    a row of its own.
    """
    models, names = spec.models(), ranked_models(spec, weights)
    first, asked = 0, set[str]()
    while first < len(names) and not (asked and _could_settle(spec, weights, asked)):
        asked |= {member.name for member in models[names[first]]}
        first += 1
    return [names[:first], *([name] for name in names[first:])]


def ranked_models(spec: Deployment, weights: Weights) -> list[str]:
    """Triton models by weight per cost of a call, as :func:`rows_by_weight` asks them."""
    models, costs = spec.models(), call_costs(spec.members)
    weight_of = dict(zip(spec.member_names, weights.default.highest(), strict=True))
    ranked = order(
        [math.fsum(weight_of[member.name] for member in members) for members in models.values()],
        [math.fsum(costs[member.name] for member in members) for members in models.values()],
    )
    return [[*models][at] for at in ranked]


def _could_settle(spec: Deployment, weights: Weights, asked: Collection[str]) -> bool:
    """Whether these members settle an attribute if all of them are sure of one value in the text."""
    rule = QuorumRule(spec.vote.min_members, spec.vote.min_weight)
    ballots = [(_VALUE, ANSWERED) if name in asked else None for name in spec.member_names]
    evidence = Evidence(weights.evidence).of(_TEXT) if weights.evidence else None
    kinds = spec.catalogue().answer_kinds()
    for name in spec.attributes or ("",):
        parameters = parameters_for(weights, name, "", kind_in(kinds, name))
        early = early_stop(weights, name, spec.lazy.flip_risk if spec.lazy else 0.0)
        highest = parameters.weighing(parameters.highest())
        if is_settled(rule, highest, ballots, (), evidence, early=early):
            return True
    return False


def call_costs(members: Sequence[MemberSpec]) -> dict[str, float]:
    """Cost of a call of each member, above 0, that orders the asking; if none has a price, 1 of each LLM."""
    costs = {member.name: _cost(member.price) for member in members}
    lowest = min((cost for cost in costs.values() if cost > 0.0), default=None)
    if lowest is None:
        return {member.name: _FREE if member.runtime in WITHOUT_LLM else 1.0 for member in members}
    return {name: cost or lowest * _FREE for name, cost in costs.items()}


def _cost(price: PriceSpec | None) -> float:
    if price is None:
        return 0.0
    tokens = price.per_1k_prompt_tokens * _PROMPT_TOKENS + price.per_1k_answer_tokens * _ANSWER_TOKENS
    return price.per_call + tokens / 1e3 + price.per_second * _SECONDS


def _rows_in(text: str) -> Rows:
    """The rows in the configuration of a lazy channel; none in another text."""
    try:
        config = text_format.Parse(text, pb.ModelConfig())
    except text_format.ParseError:
        return []
    rows: Rows = [[]]
    for step in config.ensemble_scheduling.step:
        if step.model_name == VOTE:
            rows.append([])
        elif step.model_name != GATE:
            rows[-1].append(step.model_name)
    return [row for row in rows if row]
