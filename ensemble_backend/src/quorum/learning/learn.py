# SPDX-License-Identifier: Apache-2.0
"""Learn weights from votes by one of the methods."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Floats, Rule, equal_rule
from quorum.decision.cell import Parameters
from quorum.decision.evidence import Coefficients
from quorum.decision.histogram import Histogram
from quorum.decision.weights import Weights, group_key
from quorum.learning.attributes import KINDS, ByAttribute
from quorum.learning.blocs import find_bloc
from quorum.learning.em import DEFAULT_LABELS, MIN_MEMBERS, OneCoin, TooFewMembersError
from quorum.learning.iwmv import Iwmv
from quorum.learning.loglinear import GOLD_FOR_GROUPS, LogLinear, NoGoldError
from quorum.learning.newton import NoConvergenceError
from quorum.learning.scored import ScoredCoin
from quorum.learning.trust import Trust, judge
from quorum.votes.statistic import Statistic
from quorum.votes.table import VotesTable
from quorum_contract.errors import QuorumError

GOLD_FOR_LOGLINEAR = 50
NA_BIAS_METHODS = ("majority", "em")
"""Methods with a setting for what "n/a" counts, in mean weights; ``loglinear`` learns it from gold."""
USUAL_NA_BIAS = -1.0
_DIGITS = 6
_LIGHT = 0.05


class LearnError(QuorumError, ValueError):
    """The votes or settings do not allow the method; the message says what to do instead."""

    code = "LEARNING_REFUSED"


class Learned(NamedTuple):
    """Parameters by name that a method learned, before they become weights."""

    default: Parameters
    attributes: Mapping[str, Parameters]
    groups: Mapping[str, Parameters]
    settings: Mapping[str, Any]
    evidence: Coefficients = MappingProxyType({})


def learn(
    table: VotesTable,
    method: str = "auto",
    *,
    gold_labels: int | None = None,
    seed: int = 0,
    catalogue: Mapping[str, str] | None = None,
    value_counts: Mapping[str, int] | None = None,
    created: datetime | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Weights:
    """Learn weights from a votes table.

    Args:
        table: The votes.
        method: "majority", "iwmv", "em", "loglinear", or "auto", see :func:`choose_method`.
        gold_labels: Number of random labelled cells whose gold is used; None: all of them.
        seed: Seed of that choice.
        catalogue: Attribute -> hash of the catalogue (``Catalogue.hashes``), stored with the weights.
        value_counts: Number of possible answers per attribute with a closed value set; 10 for the others.
        created: Time to record; None: now.
        settings: Settings of the method, see the method's class; recorded in the weights.

    Raises:
        LearnError: Unknown method or setting, no gold for loglinear, fewer than 3 members for em, or a
            minimum that is not reached.
        VotesError: ``gold_labels`` is more than the table has.
    """
    if gold_labels is not None:
        table = table.sample_gold(gold_labels, seed)
    provenance = {"data_hash": table.data_hash(), "seed": seed if gold_labels is not None else None}
    return learn_statistic(
        table.statistic(), method, catalogue=catalogue, value_counts=value_counts,
        created=created, settings=settings, provenance=provenance,
    )  # fmt: skip


def learn_statistic(
    statistic: Statistic,
    method: str = "auto",
    *,
    catalogue: Mapping[str, str] | None = None,
    value_counts: Mapping[str, int] | None = None,
    created: datetime | None = None,
    settings: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Weights:
    """Learn weights from a histogram, as shards and streams give it; see :func:`learn`."""
    name = choose_method(statistic, value_counts) if method == "auto" else method
    if name not in METHODS:
        raise LearnError(f"method {name!r} is unknown; choose auto or one of {sorted(METHODS)}")
    try:
        call = inspect.signature(METHODS[name]).bind(statistic, value_counts or {}, **(settings or {}))
    except TypeError as error:
        raise LearnError(f"{name}: settings {dict(settings or {})} do not fit: {error}") from error
    try:
        learned = METHODS[name](*call.args, **call.kwargs)
    except (NoConvergenceError, NoGoldError, TooFewMembersError) as error:
        raise LearnError(f"{name}: {error}") from error
    if method == "auto" and name == "majority" and statistic.hist.active.sum() >= MIN_MEMBERS:
        learned = learned._replace(settings={**learned.settings, **doubt(statistic, value_counts or {})})
    record = {
        "created": (created or datetime.now(UTC)).isoformat(timespec="seconds"),
        "rows": round(statistic.hist.total),
        "products": statistic.products,
        "gold_labels": round(statistic.hist.labelled().total),
        "data_hash": None,
        "heldout": None,
    }
    return Weights(
        method=name,
        members=statistic.members,
        default=learned.default,
        attributes=learned.attributes,
        groups=learned.groups,
        settings=learned.settings,
        catalogue=catalogue,
        confidence="calibrated" if learned.default.calibrated else "agreement",
        provenance=record | dict(provenance or {}),
        evidence=learned.evidence,
    )


def choose_method(statistic: Statistic, value_counts: Mapping[str, int] | None = None) -> str:
    """Choose the method for "auto": by the amount of gold, then by what the members' agreement is worth.

    loglinear from 50 gold labels; else em if at least 3 members answered and their agreement can be trusted
    (:func:`quorum.learning.trust.judge`), or votes have scores; else majority.
    """
    if statistic.hist.labelled().total >= GOLD_FOR_LOGLINEAR:
        return "loglinear"
    if statistic.hist.active.sum() < MIN_MEMBERS:
        return "majority"
    if statistic.scored is not None:
        return "em"
    return "majority" if "doubt" in doubt(statistic, value_counts or {}) else "em"


def doubt(statistic: Statistic, counts: Mapping[str, int]) -> dict[str, Any]:
    """Settings that say why agreement is not trusted, ``doubt``, and which members are ``alike``."""
    names, hist = statistic.by_attribute()
    return _in_words(judge(hist, label_counts(names, counts)), statistic.members)


def _in_words(trust: Trust, members: tuple[str, ...]) -> dict[str, Any]:
    alike = {"alike": [members[j] for j in trust.alike]}
    if trust.doubt is None:
        return alike
    advice = f"staying with majority; {GOLD_FOR_LOGLINEAR} labels decide it"
    return alike | {"doubt": f"{trust.reason(members)}: {advice}"}


def _majority(statistic: Statistic, counts: Mapping[str, int], na_bias: float = 0.0) -> Learned:
    settings = {"na_bias": na_bias} if na_bias else {}
    rule = _with_na_bias(equal_rule(statistic.hist.members), na_bias)
    return Learned(_parameters(rule), {}, {}, settings)


def _iwmv(statistic: Statistic, counts: Mapping[str, int], per_attribute: bool = True) -> Learned:
    names, hist = statistic.by_attribute()
    if not names:
        raise LearnError("iwmv: no vote to learn from; record votes with answers that can be read")
    labels = label_counts(names, counts)
    default = Iwmv(labels).fit(hist).rule_
    settings = {"per_attribute": per_attribute, "labels": _recorded(names, counts)}
    own = _by_name(names, Iwmv(labels, per_group=True).fit(hist).rule_) if per_attribute else {}
    return Learned(_parameters(default), own, {}, settings)


def _em(
    statistic: Statistic,
    counts: Mapping[str, int],
    per_attribute: bool = True,
    blocs: bool = True,
    scores: bool = True,
    cautious: bool = True,
    na_bias: float = 0.0,
) -> Learned:
    names, hist = statistic.by_attribute()
    labels = label_counts(names, counts)
    model = OneCoin(labels, per_group=per_attribute).fit(hist)
    bloc = find_bloc(hist, _typical(names, hist, counts)) if blocs else None
    default, own = model.default_rule(DEFAULT_LABELS), model.rule_
    factor = np.ones(hist.members) if bloc is None else bloc.weights / np.maximum(default.weights[0], _LIGHT)
    settings = {
        "per_attribute": per_attribute,
        "blocs": blocs,
        "cautious": cautious,
        "bloc": [] if bloc is None else [statistic.members[j] for j in bloc.members],
        "labels": _recorded(names, counts),
        "strength": None if math.isinf(model.strength_) else model.strength_,
        "accuracy": [None if math.isnan(a) else round(float(a), 4) for a in model.accuracy_],
    }
    coin = None
    if statistic.scored is not None:
        coin = _scored(statistic, labels) if scores else None
        settings["scores"] = scores
        settings["score_slopes"] = [0.0] * hist.members if coin is None else coin.slope_.round(4).tolist()
        if coin is not None:
            # Votes without a score, and members whose scores say nothing, keep the weights of em.
            default = coin.rule(np.array([DEFAULT_LABELS]), default.weights)
            own = coin.rule(labels, own.weights)
            # A bloc takes no weight from a member that has hardly any without its scores.
            factor = np.where((coin.slope_ > 0.0) & (default.weights[0] < _LIGHT), 1.0, factor)
    default, own = (_scaled(rule, factor) for rule in (default, own))
    if cautious and coin is None:
        settings |= _in_words(judge(hist, labels, blocs, model if per_attribute else None), statistic.members)
    if "doubt" in settings:
        default = own = Rule(hist.active.astype(np.float64)[None], np.zeros(1))
    if na_bias:
        settings["na_bias"] = na_bias
        default, own = (_with_na_bias(rule, na_bias, hist.active) for rule in (default, own))
    by_name = {} if "doubt" in settings else _by_name(names, own)
    return Learned(_parameters(default), by_name, {}, settings)


def _scored(statistic: Statistic, labels: Floats) -> ScoredCoin | None:
    """Accuracies by the scores of votes; None where the scores of no member say anything."""
    coin = ScoredCoin(labels).fit(statistic.by_attribute(statistic.scored)[1])
    return coin if coin.informative else None


def _scaled(rule: Rule, factor: Floats) -> Rule:
    offsets = None if rule.scores is None else rule.scores * factor[:, None]
    return replace(rule, weights=rule.weights * factor, scores=offsets)


def _with_na_bias(rule: Rule, na_bias: float, members: npt.NDArray[np.bool_] | None = None) -> Rule:
    """Add ``na_bias`` times the mean weight of the members, all by default, to the score of "n/a"."""
    used = rule.weights if members is None else rule.weights[:, members]
    return replace(rule, na_bias=rule.na_bias + na_bias * used.mean(axis=1))


def _loglinear(
    statistic: Statistic,
    counts: Mapping[str, int],
    ridge: float | None = None,
    na_bias: bool = True,
    gold_for_groups: float = GOLD_FOR_GROUPS,
    part_bias: bool = True,
    scores: bool = True,
    evidence: bool = True,
    per_attribute: bool = True,
) -> Learned:
    names, hist = statistic.by_attribute()
    labels = _typical(names, hist, counts)
    attribute = np.array([names.index(name) for _, name in statistic.groups], np.int32)
    levels = [attribute, np.arange(len(attribute), dtype=np.int32)]
    known = statistic if scores else statistic.without_scores()
    gold = known.gold
    if not part_bias and gold is not None:
        gold = None if known.scored is None else gold.first(hist.members)
    model = LogLinear(ridge, None, na_bias, labels, levels, gold_for_groups, per_attribute)
    text = known.text if evidence else None
    if text is not None:
        text = text.first(hist.members if gold is None else gold.members)
    model.fit(statistic.hist, gold, None if gold is None else known.scored, text)
    settings = {
        "ridge": model.ridge_,
        "na_bias": na_bias,
        "gold_for_groups": gold_for_groups,
        "part_bias": part_bias and statistic.gold is not None,
        "per_attribute": per_attribute,
        "group_ridges": [None if math.isinf(r) else round(r, 4) for r in model.group_ridges_],
    }
    if statistic.scored is not None:
        settings["scores"] = model.default_.scores is not None
    if statistic.text is not None:
        settings["evidence"] = bool(model.text_)
        settings["evidence_ridge"] = model.text_ridge_ if model.text_ else None
    by_attribute = _by_name(names, model.levels_[1]) if math.isfinite(model.group_ridges_[0]) else {}
    if (chosen := model.attributes_) is not None:
        settings["attributes"] = _chosen(names, chosen)
        # The others have the default ones. Without texts, equal weights are calibrated for each attribute.
        kept = ("own",) if model.text_ else ("own", "equal")
        by_attribute = {
            name: own
            for (name, own), kind in zip(by_attribute.items(), chosen.kinds, strict=True)
            if KINDS[kind] in kept
        }
    keys = tuple(group_key(category, attribute) for category, attribute in statistic.groups)
    by_group = _by_name(keys, model.levels_[2]) if math.isfinite(model.group_ridges_[1]) else {}
    return Learned(_parameters(model.default_), by_attribute, by_group, settings, model.text_)


def _chosen(names: tuple[str, ...], chosen: ByAttribute) -> dict[str, dict[str, Any]]:
    """Per attribute the kind of its weights, and the expected gain on equal ones with its deviation."""
    columns = (chosen.kinds.tolist(), chosen.gain.round(4).tolist(), chosen.spread.round(4).tolist())
    return {
        name: {"weights": KINDS[kind], "gain": gain + 0.0, "spread": spread}
        for name, kind, gain, spread in zip(names, *columns, strict=True)
    }


METHODS: Mapping[str, Callable[..., Learned]] = {
    "majority": _majority, "iwmv": _iwmv, "em": _em, "loglinear": _loglinear,
}  # fmt: skip


def label_counts(names: tuple[str, ...], counts: Mapping[str, int]) -> Floats:
    """(g,) number of possible answers per attribute, 10 where open; raises LearnError for one below 2."""
    for name, count in counts.items():
        if count < 2:
            raise LearnError(f"value_counts[{name!r}] is {count}; at least 2 answers must be possible")
    return np.array([float(counts.get(name, DEFAULT_LABELS)) for name in names])


def _typical(names: tuple[str, ...], hist: Histogram, counts: Mapping[str, int]) -> float:
    sizes = np.bincount(hist.groups, hist.counts, len(names))
    return float(np.average(label_counts(names, counts), weights=sizes))


def _recorded(names: tuple[str, ...], counts: Mapping[str, int]) -> dict[str, int]:
    return {name: counts[name] for name in names if name in counts}


def _parameters(rule: Rule, row: int = 0) -> Parameters:
    none = None if rule.none_bias is None else _rounded(rule.none_bias[row])
    weights = tuple(_rounded(max(w, 0.0)) for w in rule.weights[row])
    part_bias = 0.0 if rule.part_bias is None else _rounded(rule.part_bias[row])
    scores: tuple[tuple[float, ...], ...] = ()
    if rule.scores is not None and rule.scores[row].any():
        scores = tuple(tuple(map(_rounded, offsets)) for offsets in rule.scores[row])
    return Parameters(weights, _rounded(rule.na_bias[row]), none, part_bias, scores)


def _rounded(value: float) -> float:
    return round(float(value), _DIGITS) + 0.0


def _by_name(names: tuple[str, ...], rule: Rule) -> dict[str, Parameters]:
    return {name: _parameters(rule, row) for row, name in enumerate(names)}
