# SPDX-License-Identifier: Apache-2.0
"""Keep, in new weights, how other weights decide some attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from quorum.decision.catalogue_change import OUTSIDE
from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights, WeightsError, attribute_of


def keep_attributes(
    new: Weights, live: Weights, names: Sequence[str], catalogue: Mapping[str, str] | None = None
) -> Weights:
    """Return the new weights with the parameters of the live ones for these attributes.

    These attributes get the same values as by the live weights. Their confidence becomes of the kind that the
    new weights give: that of calibrated parameters among agreement is agreement. Agreement cannot become a
    calibrated confidence without labels: such parameters are scaled to the sum of the new weights, which
    changes no decision, and get the new score of "none of these"; the provenance then says "not calibrated".
    ``catalogue`` maps attribute -> hash in the catalogue that the live weights are served with.

    Raises:
        WeightsError: The live weights are for other members, or both weigh values by texts, in two ways.
    """
    if new.members != live.members:
        raise WeightsError(
            f"attributes are kept of weights for the same members in the same order; these are for "
            f"{', '.join(new.members)}, the live ones for {', '.join(live.members)}"
        )
    wanted = set(names)
    new, live = _one_evidence(new, live, names)
    attributes = {name: found for name, found in new.attributes.items() if name not in wanted}
    groups = {key: found for key, found in new.groups.items() if attribute_of(key) not in wanted}
    for name in names:
        scale = new.attributes.get(name, new.default)
        attributes[name] = _converted(live.attributes.get(name, live.default), scale)
        own = {key: found for key, found in live.groups.items() if attribute_of(key) == name}
        groups |= {key: _converted(found, scale) for key, found in own.items()}
    is_scaled = live.confidence == "agreement" and new.confidence == "calibrated"
    origin = {"content_hash": live.content_hash, "method": live.method}
    origin |= {"confidence": "not calibrated"} if is_scaled else {}
    kept = {**_kept(new), **dict.fromkeys(names, origin)}
    known = new.catalogue
    if isinstance(known, Mapping) and catalogue is not None:
        served = {name: catalogue.get(name, catalogue.get(OUTSIDE)) for name in names}
        known = {**known, **{name: digest for name, digest in served.items() if digest is not None}}
    provenance = {**new.provenance, "kept": kept}
    return replace(new, attributes=attributes, groups=groups, catalogue=known, provenance=provenance)


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
    kept = [name for name in names if live.parameters(name).text] if live.evidence else []
    if not kept:
        return new, _without_text(live)
    if new.evidence:
        raise WeightsError(
            f"{', '.join(kept)} cannot be kept: these weights and the live ones weigh values by the texts of "
            "products in two ways, and a version holds one; learn with --no-evidence to keep attributes"
        )
    return replace(_without_text(new), evidence=live.evidence), live


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


def _converted(parameters: Parameters, scale: Parameters) -> Parameters:
    """The same decisions with a confidence of the kind, and on the scale, of other parameters."""
    if parameters.calibrated == scale.calibrated:
        return parameters
    if not scale.calibrated:
        return msgspec.structs.replace(parameters, none_bias=None)
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
