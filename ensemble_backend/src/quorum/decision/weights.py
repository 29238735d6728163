# SPDX-License-Identifier: Apache-2.0
"""``weights.json``: the parameters of one version of the vote, checked on every read.

Standard library only: the vote model imports this inside Triton.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quorum.decision.cell import Parameters
from quorum_contract.errors import QuorumError

WEIGHTS_FILE = "weights.json"
SCHEMA_VERSION = 1
METHODS = ("majority", "iwmv", "em", "loglinear")
CONFIDENCES = ("agreement", "calibrated")
_KEYS = frozenset({
    "schema_version", "method", "settings", "members", "catalogue_hash", "default", "attributes", "groups",
    "confidence", "provenance", "content_hash",
})  # fmt: skip
_OPTIONAL = frozenset({"groups", "settings"})


class WeightsError(QuorumError, ValueError):
    """The weights cannot be used; the message says what is wrong, where, and what to do next."""

    code = "WEIGHTS_INVALID"


def group_key(category: str, attribute: str) -> str:
    """Key of a group in ``groups``: ``"<category>|<attribute>"``, a "|" inside either is escaped."""
    if "|" in category or "|" in attribute or "\\" in category or "\\" in attribute:
        category, attribute = (s.replace("\\", "\\\\").replace("|", "\\|") for s in (category, attribute))
    return f"{category}|{attribute}"


@dataclass(frozen=True, slots=True)
class Weights:
    """The parameters of every linear voting method; equal content has an equal hash.

    Attributes:
        method: One of :data:`METHODS`.
        members: Member names; every list of weights is in this order.
        default: Parameters of a cell whose attribute has none of its own.
        attributes: Parameters per attribute name.
        groups: Parameters per :func:`group_key`; the most specific wins.
        catalogue_hash: Hash of the attribute catalogue the weights were learned with, or None.
        confidence: "agreement" (share of the weights) or "calibrated" (probability of being right).
        settings: Settings of the method, JSON values.
        provenance: Where the weights come from, JSON values.
    """

    method: str
    members: tuple[str, ...]
    default: Parameters
    attributes: Mapping[str, Parameters] = field(default_factory=dict)
    groups: Mapping[str, Parameters] = field(default_factory=dict)
    catalogue_hash: str | None = None
    confidence: str = "agreement"
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self)

    def parameters(self, attribute: str, category: str = "") -> Parameters:
        """Parameters of a cell: of its category x attribute, else of its attribute, else the default."""
        found = self.groups.get(group_key(category, attribute)) if self.groups else None
        return found or self.attributes.get(attribute) or self.default

    def check_fits(self, members: Sequence[str], catalogue_hash: str | None) -> None:
        """Refuse a deployment that the weights were not made for.

        Args:
            members: Members of the deployment, in its order.
            catalogue_hash: Hash of the deployment's attribute catalogue, or None for no catalogue.

        Raises:
            WeightsError: Other members, another order, or another catalogue.
        """
        if tuple(members) != self.members:
            raise WeightsError(
                f"weights are for the members {list(self.members)}, the deployment has {list(members)}; "
                "the order counts too: learn weights from votes of these members"
            )
        if self.catalogue_hash is not None and self.catalogue_hash != catalogue_hash:
            raise WeightsError(
                f"weights were learned with the catalogue {self.catalogue_hash}, the deployment has "
                f"{catalogue_hash}; learn them again with it, or deploy the other one"
            )

    @property
    def content_hash(self) -> str:
        """``sha256:`` of the canonical JSON of everything but the hash itself."""
        return _digest(_as_json(self))


def equal_weights(members: Sequence[str], catalogue_hash: str | None = None) -> Weights:
    """Weights of plain majority voting: where a deployment starts. The same input gives the same bytes."""
    return Weights(
        method="majority",
        members=tuple(members),
        default=Parameters((1.0,) * len(members)),
        catalogue_hash=catalogue_hash,
        provenance={
            "created": None, "rows": 0, "products": 0, "gold_labels": 0, "data_hash": None, "heldout": None,
        },
    )  # fmt: skip


def dumps(weights: Weights) -> str:
    """Write as JSON that a person can read and compare: one line per attribute, sorted."""
    content = _as_json(weights)
    content["content_hash"] = _digest(content)
    lines = []
    for key, value in content.items():
        if key in {"attributes", "groups", "provenance"} and value:
            rows = ",\n".join(f"    {_flat(name)}: {_flat(value[name])}" for name in sorted(value))
            lines.append(f"  {_flat(key)}: {{\n{rows}\n  }}")
        else:
            lines.append(f"  {_flat(key)}: {_flat(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def dump(weights: Weights, path: str | Path) -> None:
    """Write :func:`dumps` to a file."""
    Path(path).write_text(dumps(weights), encoding="utf-8")


def load(path: str | Path) -> Weights:
    """Read a weights file and check all of it.

    Raises:
        WeightsError: Unreadable, not JSON, unknown schema version, missing or unknown keys, values of the
            wrong type, negative or non-finite numbers, or a content hash that does not match.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: cannot be read ({error}); write it with `quorum learn`") from error
    return loads(text, str(path))


def loads(text: str, source: str = "weights") -> Weights:
    """Read weights from JSON text; ``source`` names it in messages. Raises like :func:`load`."""
    try:
        return _loads(text)
    except WeightsError as error:
        raise WeightsError(f"{source}: {error}") from error


def _loads(text: str) -> Weights:
    try:
        content = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise WeightsError(
            f"line {error.lineno}, column {error.colno}: not JSON ({error.msg}); the file may be cut off: "
            "write it again with `quorum learn`"
        ) from error
    if not isinstance(content, dict):
        raise WeightsError("the file must hold one JSON object; write it with `quorum learn`")
    version = content.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise WeightsError(
            f"schema_version is {version!r}, this quorum reads {SCHEMA_VERSION}; "
            "learn the weights again with this version, or upgrade quorum"
        )
    _check_keys(content)
    weights = _from_json(content)
    if content["content_hash"] != weights.content_hash:
        raise WeightsError(
            f"content_hash is {content['content_hash']!r} but the content's is {weights.content_hash!r}: "
            "the file was edited or damaged; learn it again, or rewrite it with quorum.decision.weights.dump"
        )
    return weights


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise WeightsError(f"key {twice!r} stands twice in one object; keep one of them")
    return result


def _check_keys(content: Mapping[str, Any]) -> None:
    missing = sorted(_KEYS - _OPTIONAL - content.keys())
    unknown = sorted(content.keys() - _KEYS)
    if missing or unknown:
        raise WeightsError(
            f"keys missing: {missing}, unknown: {unknown}; the file must have exactly {sorted(_KEYS)}"
        )
    for key in ("attributes", "groups", "settings", "provenance"):
        if not isinstance(content.get(key, {}), dict):
            raise WeightsError(f"{key} must be a JSON object, not {content[key]!r}")


def _from_json(content: Mapping[str, Any]) -> Weights:
    members = content["members"]
    if not isinstance(members, list) or not all(isinstance(name, str) for name in members):
        raise WeightsError(f"members must be a list of names, not {members!r}")
    return Weights(
        method=content["method"],
        members=tuple(members),
        default=_parameters(content["default"], "default"),
        attributes={k: _parameters(v, f"attributes[{k!r}]") for k, v in content["attributes"].items()},
        groups={k: _parameters(v, f"groups[{k!r}]") for k, v in content.get("groups", {}).items()},
        catalogue_hash=content["catalogue_hash"],
        confidence=content["confidence"],
        settings=content.get("settings", {}),
        provenance=content["provenance"],
    )


def _parameters(value: object, where: str) -> Parameters:
    keys = {"weights", "na_bias", "none_bias"}
    if not isinstance(value, dict) or value.keys() - {"part_bias"} != keys:
        raise WeightsError(f"{where} must be an object with exactly the keys {sorted(keys)}, not {value!r}")
    if not isinstance(value["weights"], list):
        raise WeightsError(f"{where}.weights must be a list of numbers, not {value['weights']!r}")
    none_bias = value["none_bias"]
    return Parameters(
        weights=tuple(_number(w, f"{where}.weights") for w in value["weights"]),
        na_bias=_number(value["na_bias"], f"{where}.na_bias"),
        none_bias=None if none_bias is None else _number(none_bias, f"{where}.none_bias"),
        part_bias=_number(value.get("part_bias", 0.0), f"{where}.part_bias"),
    )


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WeightsError(f"{where}: {value!r} is not a number; learn the weights again")
    return float(value)


def _check(weights: Weights) -> None:
    if weights.method not in METHODS:
        raise WeightsError(f"method is {weights.method!r}; it must be one of {list(METHODS)}")
    if weights.confidence not in CONFIDENCES:
        raise WeightsError(f"confidence is {weights.confidence!r}; it must be one of {list(CONFIDENCES)}")
    if not weights.members or len(set(weights.members)) != len(weights.members) or "" in weights.members:
        raise WeightsError(f"members must be one or more distinct, non-empty names: {list(weights.members)}")
    if weights.catalogue_hash is not None and not isinstance(weights.catalogue_hash, str):
        raise WeightsError(f"catalogue_hash must be text or null, not {weights.catalogue_hash!r}")
    places: Iterable[tuple[str, Parameters]] = [
        ("default", weights.default),
        *((f"attributes[{name!r}]", value) for name, value in weights.attributes.items()),
        *((f"groups[{name!r}]", value) for name, value in weights.groups.items()),
    ]
    for where, parameters in places:
        _check_parameters(parameters, where, weights)


def _check_parameters(parameters: Parameters, where: str, weights: Weights) -> None:
    if len(parameters.weights) != len(weights.members):
        raise WeightsError(
            f"{where}.weights has {len(parameters.weights)} numbers for {len(weights.members)} members; "
            "learn the weights from votes of exactly these members"
        )
    for name, weight in zip(weights.members, parameters.weights, strict=True):
        if not math.isfinite(weight) or weight < 0.0:
            raise WeightsError(
                f"{where}.weights: the weight of {name!r} is {weight}; weights are finite and not negative "
                "(0 = no say): learn them again"
            )
    none_bias = 0.0 if parameters.none_bias is None else parameters.none_bias
    if not all(map(math.isfinite, (parameters.na_bias, none_bias, parameters.part_bias))):
        raise WeightsError(f"{where}: the biases must be finite; learn the weights again")
    if (parameters.none_bias is None) == (weights.confidence == "calibrated"):
        raise WeightsError(
            f"{where}.none_bias is {parameters.none_bias} but confidence is {weights.confidence!r}: "
            "a calibrated confidence needs a number, agreement needs null"
        )


def _as_json(weights: Weights) -> dict[str, Any]:
    def plain(p: Parameters) -> dict[str, Any]:
        entry = {"weights": list(p.weights), "na_bias": p.na_bias, "none_bias": p.none_bias}
        return entry | ({"part_bias": p.part_bias} if p.part_bias else {})

    return {
        "schema_version": SCHEMA_VERSION,
        "method": weights.method,
        "settings": dict(weights.settings),
        "members": list(weights.members),
        "catalogue_hash": weights.catalogue_hash,
        "default": plain(weights.default),
        "attributes": {name: plain(value) for name, value in weights.attributes.items()},
        "groups": {name: plain(value) for name, value in weights.groups.items()},
        "confidence": weights.confidence,
        "provenance": dict(weights.provenance),
    }


def _flat(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{value!r} is not JSON ({error}); use text, finite numbers, null") from error


def _digest(content: Mapping[str, Any]) -> str:
    try:
        canonical = json.dumps(
            content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
        )
    except (TypeError, ValueError) as error:
        raise WeightsError(f"settings or provenance cannot be written as JSON: {error}") from error
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
