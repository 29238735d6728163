# SPDX-License-Identifier: Apache-2.0
"""Keep, in new weights, how other weights decide some attributes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from quorum.decision.answer_kinds import SETTING, recorded_kinds
from quorum.decision.catalogue_change import OUTSIDE
from quorum.decision.cell import Parameters
from quorum.decision.evidence import Coefficients
from quorum.decision.stopping import without_attributes
from quorum.decision.weights import SCHEMA_VERSION, Weights, WeightsError, attribute_of

SET_CHOICE, TEXTS = "set_choice", "texts"
"""Settings by attribute: how answers of sets are decided, and what taught weights of texts."""


def keep_attributes(
    new: Weights, live: Weights, names: Sequence[str], catalogue: Mapping[str, str] | None = None
) -> Weights:
    """Return the new weights with the parameters of the live ones for these attributes.

    These attributes get the same values as by the live weights. Their confidence becomes of the kind that the
    new weights give: that of calibrated parameters among agreement is agreement. Agreement cannot become a
    calibrated confidence without labels: such parameters get the new score of "none of these", and are scaled
    to the sum of the new weights, but not where texts count, as evidence has one scale for all attributes.
    The provenance then says "not calibrated", and goes on saying so when they are kept again.
    ``catalogue`` maps attribute -> hash in the catalogue that the live weights are served with. New weights
    of schema 1 and 2, which fit that catalogue as a whole, become weights of schema 3.

    Raises:
        WeightsError: The live weights are for other members, or both weigh values by texts, in two ways.
    """
    if new.members != live.members:
        raise WeightsError(
            f"attributes are kept of weights for the same members in the same order; these are for "
            f"{', '.join(new.members)}, the live ones for {', '.join(live.members)}"
        )
    wanted, content_hash = set(names), live.content_hash
    new = replace(new, catalogue=_catalogue(new, names, catalogue), schema_version=SCHEMA_VERSION)
    new, live = _one_evidence(new, live, names)
    attributes = {name: found for name, found in new.attributes.items() if name not in wanted}
    groups = {key: found for key, found in new.groups.items() if attribute_of(key) not in wanted}
    for name in names:
        scale = new.attributes.get(name, new.default)
        attributes[name] = converted(live.attributes.get(name, live.default), scale, live.evidence)
        own = {key: found for key, found in live.groups.items() if attribute_of(key) == name}
        groups |= {key: converted(found, scale, live.evidence) for key, found in own.items()}
    marked = set(names if live.confidence == "agreement" else not_calibrated(live))
    origin = {"content_hash": content_hash, "method": live.method}
    kept = {**_kept(new)}
    for name in names:
        is_marked = new.confidence == "calibrated" and name in marked
        kept[name] = origin | ({"confidence": "not calibrated"} if is_marked else {})
    provenance = {**new.provenance, "kept": kept}
    settings = without_attributes(_with_kinds(new, live, wanted), wanted.__contains__)
    return replace(new, attributes=attributes, groups=groups, provenance=provenance, settings=settings)


def _with_kinds(new: Weights, live: Weights, names: Collection[str]) -> Mapping[str, Any]:
    """Settings of the new weights that also say of which kinds kept attributes are, and what taught them."""
    settings = {**new.settings}
    parts = {SETTING: (recorded_kinds(new.settings), recorded_kinds(live.settings))}
    parts |= {key: (_stated(new, key), _stated(live, key)) for key in (SET_CHOICE, TEXTS)}
    for key, (own, theirs) in parts.items():
        others = {name: found for name, found in own.items() if name not in names}
        joined = others | {name: found for name, found in theirs.items() if name in names}
        if joined:
            settings[key] = dict(sorted(joined.items()))
        elif own:
            del settings[key]
    return settings


def _stated(weights: Weights, key: str) -> Mapping[str, Any]:
    found = weights.settings.get(key)
    return found if isinstance(found, Mapping) else {}


def kept_attributes(weights: Weights) -> tuple[str, ...]:
    """Names of the attributes that weights decide as earlier ones did, sorted."""
    return tuple(sorted(_kept(weights)))


def not_calibrated(weights: Weights) -> tuple[str, ...]:
    """Those of the kept attributes whose confidence is not calibrated though that of the weights is."""
    kept = _kept(weights).items()
    return tuple(sorted(name for name, origin in kept if "confidence" in origin))


def _one_evidence(new: Weights, live: Weights, names: Sequence[str]) -> tuple[Weights, Weights]:
    """Both weights with the evidence of one of them, which counts in those alone that had it."""
    if new.evidence == live.evidence:
        return new, live
    kept = [name for name in names if _uses_text(live, name)] if live.evidence else []
    if not kept:
        return new, _without_text(live)
    if new.evidence:
        raise WeightsError(
            f"{', '.join(kept)} cannot be kept: these weights and the live ones weigh values by the texts of "
            "products in two ways, and a version holds one; learn with --no-evidence to keep attributes"
        )
    return replace(_without_text(new), evidence=live.evidence), live


def _uses_text(weights: Weights, name: str) -> bool:
    """Whether texts count in any cell of an attribute."""
    groups = (found for key, found in weights.groups.items() if attribute_of(key) == name)
    return any(found.text for found in (weights.parameters(name), *groups))


def _catalogue(
    new: Weights, names: Sequence[str], served: Mapping[str, str] | None
) -> Mapping[str, str] | None:
    """Attribute -> hash in the catalogue, of weights that keep these attributes as they are served."""
    if isinstance(new.catalogue, str):
        return served
    if new.catalogue is None or served is None:
        return new.catalogue
    kept = {name: served.get(name, served.get(OUTSIDE)) for name in names}
    return {**new.catalogue, **{name: digest for name, digest in kept.items() if digest is not None}}


def _without_text(weights: Weights) -> Weights:
    """Weights with parameters by which texts do not count."""
    attributes, groups = (
        {key: msgspec.structs.replace(found, text=False) for key, found in part.items()}
        for part in (weights.attributes, weights.groups)
    )
    default = msgspec.structs.replace(weights.default, text=False)
    return replace(weights, default=default, attributes=attributes, groups=groups)


def _kept(weights: Weights) -> Mapping[str, Any]:
    found = weights.provenance.get("kept")
    return found if isinstance(found, dict) else {}


def converted(parameters: Parameters, scale: Parameters, evidence: Coefficients) -> Parameters:
    """Return the same decisions with a confidence of the kind of others, and on their scale without texts.

    Evidence is one set of coefficients, which cannot be scaled for an attribute.
    """
    if parameters.calibrated == scale.calibrated:
        return parameters
    if not scale.calibrated:
        return msgspec.structs.replace(parameters, none_bias=None, chance=())
    if evidence and parameters.text:
        return msgspec.structs.replace(parameters, none_bias=scale.none_bias)
    total, wanted = sum(parameters.weights), sum(scale.weights)
    factor = wanted / total if total and wanted else 1.0
    return msgspec.structs.replace(
        parameters,
        weights=tuple(factor * weight for weight in parameters.weights),
        na_bias=factor * parameters.na_bias,
        none_bias=scale.none_bias,
        part_bias=factor * parameters.part_bias,
        scores=tuple(tuple(factor * offset for offset in offsets) for offsets in parameters.scores),
    )
