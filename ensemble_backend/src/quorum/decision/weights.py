# SPDX-License-Identifier: Apache-2.0
"""``weights.json``: the parameters of one version of the vote, checked on every read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from quorum.decision.answer_kinds import AnswerKinds, is_learned
from quorum.decision.catalogue_change import OUTSIDE, CatalogueChange, is_stale
from quorum.decision.cell import Parameters
from quorum.decision.evidence import FEATURES, Coefficients
from quorum.decision.evidence import check as check_evidence
from quorum.decision.hashed_json import advise, check_hash, lay_out, parse, with_hash
from quorum.decision.parameter_faults import fault_in
from quorum.decision.scores import LOG_ODDS
from quorum.decision.stopping import without_attributes
from quorum_contract.errors import QuorumError

WEIGHTS_FILE = "weights.json"
SCHEMA_VERSION = 3
"""Schema of all new weights: 2 added ``scores``; 3 has ``evidence``, the catalogue's hash by attribute, and a
content hash without the time of learning. Weights from files of 1 and 2 keep their rules, byte for byte."""
METHODS = ("majority", "iwmv", "em", "loglinear", "consensus")
CONFIDENCES = ("agreement", "calibrated")


class WeightsError(QuorumError, ValueError):
    """The weights cannot be used; the message says what is wrong, where, and what to do next."""

    code = "WEIGHTS_INVALID"


def group_key(category: str, attribute: str) -> str:
    """Key of a group in ``groups``: ``"<category>|<attribute>"``, a "|" inside either is escaped."""
    return "|".join(part.replace("\\", "\\\\").replace("|", "\\|") for part in (category, attribute))


_GROUP_KEY = re.compile(r"((?:[^\\|]|\\.)*)\|((?:[^\\|]|\\.)*)", re.DOTALL)


def attribute_of(key: str) -> str:
    """Attribute of a :func:`group_key`; the key itself where it is none."""
    found = _GROUP_KEY.fullmatch(key)
    return re.sub(r"\\(.)", r"\1", found[2], flags=re.DOTALL) if found else key


@dataclass(frozen=True, slots=True)
class Weights:
    """The parameters of every linear voting method; equal content has an equal hash.

    Attributes:
        method: One of :data:`METHODS`.
        members: Member names; every list of weights is in this order.
        default: Parameters of a cell whose attribute has none of its own.
        attributes: Parameters per attribute name; under ``OUTSIDE`` those of all attributes together that the
            catalogue does not list, learned where it asks them a default question.
        groups: Parameters per :func:`group_key`; the most specific wins.
        catalogue: Attribute -> its hash in the catalogue that the weights were learned with, ``OUTSIDE`` for
            attributes it does not list; None: unknown. In schema 1 and 2 one hash of all.
        confidence: "agreement" (share of the weights) or "calibrated" (probability of being right).
        settings: Settings of the method, JSON values.
        provenance: Where the weights come from, JSON values.
        evidence: What the product's text says about values, see :mod:`quorum.decision.evidence`; {}: nothing.
        schema_version: 3; 1 or 2 for weights of an older file, which are written again as they were.
    """

    method: str
    members: tuple[str, ...]
    default: Parameters
    attributes: Mapping[str, Parameters] = field(default_factory=dict)
    groups: Mapping[str, Parameters] = field(default_factory=dict)
    catalogue: Mapping[str, str] | str | None = None
    confidence: str = "agreement"
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    evidence: Coefficients = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise WeightsError(f"method is {self.method!r}; it must be one of {list(METHODS)}")
        if self.confidence not in CONFIDENCES:
            raise WeightsError(f"confidence is {self.confidence!r}; it must be one of {list(CONFIDENCES)}")
        if not self.members or len(set(self.members)) != len(self.members) or "" in self.members:
            raise WeightsError(f"members must be one or more distinct, non-empty names: {list(self.members)}")
        if isinstance(self.catalogue, Mapping if self.schema_version < _BY_ATTRIBUTE else str):
            raise WeightsError(
                f"schema_version {self.schema_version} has another form of the catalogue's hash"
            )
        if self.evidence and self.schema_version < _BY_ATTRIBUTE:
            raise WeightsError(
                f"weights of schema_version {self.schema_version} hold no evidence of texts: learn them again"
            )
        try:
            check_evidence(self.evidence)
        except ValueError as error:
            raise WeightsError(str(error)) from error
        _check_provenance(self.provenance)
        _check_parameters(self.default, "default", self)
        for key, named in (("attributes", self.attributes), ("groups", self.groups)):
            for name, parameters in named.items():
                _check_parameters(parameters, f"{key}[{name!r}]", self)

    def parameters(self, attribute: str, category: str = "") -> Parameters:
        """Parameters of a cell: of its category x attribute, else of its attribute, else the default.

        Attributes outside the catalogue share those under ``OUTSIDE``, where the weights have them.
        """
        if self.is_outside(attribute):
            category, attribute = "", OUTSIDE
        found = self.groups.get(group_key(category, attribute)) if self.groups else None
        return found or self.attributes.get(attribute) or self.default

    def has_own(self, attribute: str, category: str = "") -> bool:
        """Whether a cell has parameters of its own, not the default's."""
        if self.is_outside(attribute):
            category, attribute = "", OUTSIDE
        return attribute in self.attributes or group_key(category, attribute) in self.groups

    def is_outside(self, attribute: str) -> bool:
        """Whether an attribute is one of those that share the parameters under ``OUTSIDE``."""
        if OUTSIDE not in self.attributes or attribute in self.attributes:
            return False
        return isinstance(self.catalogue, Mapping) and attribute not in self.catalogue

    def check_fits(
        self,
        members: Sequence[str],
        catalogue: Mapping[str, str] | None,
        whole: str | None = None,
        kinds: AnswerKinds = MappingProxyType({}),
    ) -> CatalogueChange:
        """Refuse a deployment that the weights do not fit, and return what its catalogue changed since.

        A change of attributes is no misfit: :meth:`fitted` leaves out what was learned for them.

        Args:
            members: The deployment's, in order.
            catalogue: Attribute -> hash, of its catalogue; None: unknown.
            whole: Hash of the whole catalogue, which weights of schema 1 and 2 need to be the same.
            kinds: Of the catalogue's attributes, see :meth:`catalogue_change`.

        Raises:
            WeightsError: Other members, another order, or (schema 1 and 2) another catalogue.
        """
        if tuple(members) != self.members:
            raise WeightsError(
                f"weights are for the members {list(self.members)}, the deployment has {list(members)}; "
                "the order counts too: learn weights from votes of these members"
            )
        if isinstance(self.catalogue, str) and self.catalogue != whole:
            raise WeightsError(
                f"weights were learned with the catalogue {self.catalogue}, the deployment has {whole}; "
                "learn them again with it, or deploy the other one"
            )
        return self.catalogue_change(catalogue, kinds)

    def catalogue_change(
        self, catalogue: Mapping[str, str] | None, kinds: AnswerKinds = MappingProxyType({})
    ) -> CatalogueChange:
        """Compare the catalogue of the weights with another (attribute -> hash), where both are known.

        ``kinds`` of the other catalogue also name the attributes that equal weights decide: those whose
        answers are of a form that these weights were not learned for.
        """
        fitted = self.fitted(catalogue)
        # Equal weights, with which a deployment starts, are the same for every kind.
        others = {} if fitted.default == equal_weights(self.members).default else kinds
        equal = tuple(name for name, kind in others.items() if not is_learned(fitted, name, "", kind))
        old, new = self.catalogue, catalogue
        if not isinstance(old, Mapping) or new is None:
            return CatalogueChange(equal=equal)
        fresh = (name for name in new if name not in old)
        return CatalogueChange(
            added=tuple(n for n in fresh if n not in self.attributes or is_stale(n, old, new)),
            changed=tuple(name for name in new if name in old and old[name] != new[name]),
            removed=tuple(name for name in old if name not in new and name != OUTSIDE),
            equal=equal,
        )

    def fitted(self, catalogue: Mapping[str, str] | None) -> Weights:
        """The weights without parameters of attributes that mean something else in this catalogue.

        These cells get the default parameters, those of all attributes together, and all members are asked
        about them until nothing can change the answer (:mod:`quorum.decision.stopping`).
        """
        old, new = self.catalogue, catalogue
        if not isinstance(old, Mapping) or new is None:
            return self
        attributes = {n: p for n, p in self.attributes.items() if not is_stale(n, old, new)}
        groups = {k: p for k, p in self.groups.items() if not is_stale(attribute_of(k), old, new)}
        settings = without_attributes(self.settings, lambda name: is_stale(name, old, new))
        is_same = (len(attributes), len(groups)) == (len(self.attributes), len(self.groups))
        if is_same and settings is self.settings:
            return self
        return replace(self, attributes=attributes, groups=groups, settings=settings)

    @property
    def uses_scores(self) -> bool:
        """Whether the weight of a vote depends on its score."""
        return any(p.scores for p in (self.default, *self.attributes.values(), *self.groups.values()))

    @property
    def content_hash(self) -> str:
        """``sha256:`` of the canonical JSON of everything but the hash itself and the time of learning."""
        return str(_content(self)["content_hash"])


_BY_ATTRIBUTE = 3
"""First schema with the catalogue's hash by attribute, and without the time of learning in the hash."""
_LEVELS = "score_log_odds"
"""Field of weights with scores: the log odds of the levels that ``scores`` has one number for."""
_REQUIRED = frozenset(
    {
        "schema_version",
        "content_hash",
        "method",
        "members",
        "default",
        "attributes",
        "confidence",
        "provenance",
    }
)
_OPTIONAL = frozenset({"groups", "settings", _LEVELS})
_PROVENANCE: Mapping[str, Any] = {
    "created": str | None,
    "rows": int,
    "products": int,
    "gold_labels": int,
    "data_hash": str | None,
    "seed": int | None,
    "days": int,
    "labelled_tables": list[str],
    "kept": dict[str, dict[str, str]],
}
"""Entries of the provenance that are read again, and their types; others are free."""
_TIMES = frozenset({"created"})
"""Entries of the provenance that the content hash leaves out, so that the same votes give the same hash."""


def equal_weights(members: Sequence[str], catalogue: Mapping[str, str] | None = None) -> Weights:
    """Weights of plain majority voting: where a deployment starts. The same input gives the same bytes."""
    return Weights(
        method="majority",
        members=tuple(members),
        default=Parameters((1.0,) * len(members)),
        catalogue=catalogue,
        provenance={
            "created": None, "rows": 0, "products": 0, "gold_labels": 0, "data_hash": None, "heldout": None,
        },
    )  # fmt: skip


def dumps(weights: Weights) -> str:
    """Write as JSON that a person can read and compare: one line per attribute, sorted."""
    return lay_out(_content(weights), {"attributes", "groups", "catalogue", "provenance", "evidence"})


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
    except (OSError, ValueError, MemoryError) as error:
        raise WeightsError(f"{path}: cannot be read ({error}); write it with `quorum learn`") from error
    return loads(text, str(path))


def loads(text: str, source: str = "weights") -> Weights:
    """Read weights from JSON text; ``source`` names it in messages. Raises like :func:`load`."""
    try:
        content = parse(text, SCHEMA_VERSION)
        _check_keys(content)
        _check_levels(content)
        if content["schema_version"] < _BY_ATTRIBUTE:
            content["catalogue"] = content.pop("catalogue_hash")
        # One by one, so that a message names the attribute; what is no object is refused below.
        content["default"] = _parameters(content["default"], "default")
        for key in ("attributes", "groups"):
            if isinstance(entries := content.get(key), dict):
                content[key] = {k: _parameters(v, f"{key}[{k!r}]") for k, v in entries.items()}
        weights = msgspec.convert(content, Weights)
        if weights.uses_scores != (_LEVELS in content):
            raise WeightsError(f"{_LEVELS} must be there exactly with weights that use scores")
        check_hash(content["content_hash"], weights.content_hash)
    # Whatever a file provokes is its damage: a server leaves this version out, and starts.
    except Exception as error:
        raise WeightsError(f"{source}: {advise(error, 'write it again with `quorum learn`')}") from error
    return weights


def _check_keys(content: Mapping[str, Any]) -> None:
    """Refuse a file with keys that its schema does not have, or without some that it needs."""
    if content["schema_version"] < _BY_ATTRIBUTE:
        required, known = _REQUIRED | {"catalogue_hash"}, _REQUIRED | _OPTIONAL | {"catalogue_hash"}
    else:
        required, known = _REQUIRED, _REQUIRED | _OPTIONAL | {"catalogue", "evidence"}
    missing, unknown = sorted(required - content.keys()), sorted(content.keys() - known)
    if missing or unknown:
        raise WeightsError(f"keys missing: {missing}, unknown: {unknown}")


def _check_levels(content: Mapping[str, Any]) -> None:
    """Refuse offsets for other levels of scores than this code's."""
    version = content["schema_version"]
    if version < _BY_ATTRIBUTE and (version > 1) != (_LEVELS in content):
        raise WeightsError(f"schema_version is {version}, which is 2 exactly with {_LEVELS}")
    if _LEVELS in content and content[_LEVELS] != list(LOG_ODDS):
        raise WeightsError(
            f"{_LEVELS} are {content[_LEVELS]}, this quorum has the levels {list(LOG_ODDS)}; learn the "
            "weights again from recorded votes"
        )


def _parameters(value: object, where: str) -> Parameters:
    if isinstance(value, dict) and (missing := sorted({"na_bias", "none_bias"} - value.keys())):
        raise WeightsError(f"{where}: keys missing: {missing}")
    try:
        return msgspec.convert(value, Parameters)
    except msgspec.ValidationError as error:
        raise WeightsError(f"{where}: {error}") from error


def _check_provenance(provenance: Mapping[str, Any]) -> None:
    for name, kind in _PROVENANCE.items():
        if name in provenance:
            try:
                msgspec.convert(provenance[name], kind)
            except msgspec.ValidationError as error:
                raise WeightsError(f"provenance.{name}: {error}") from error


def _check_parameters(parameters: Parameters, where: str, weights: Weights) -> None:
    if fault := fault_in(parameters, weights.members, weights.confidence):
        raise WeightsError(where + fault)


def _content(weights: Weights) -> dict[str, Any]:
    """All that the file holds, the hash last."""
    by_attribute = weights.schema_version >= _BY_ATTRIBUTE
    known = weights.catalogue
    content: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION if by_attribute else 1 + weights.uses_scores,
        "method": weights.method,
        "settings": dict(weights.settings),
        "members": weights.members,
        "catalogue" if by_attribute else "catalogue_hash": dict(known)
        if isinstance(known, Mapping)
        else known,
        "default": _plain(weights.default),
        "attributes": {name: _plain(value) for name, value in weights.attributes.items()},
        "groups": {name: _plain(value) for name, value in weights.groups.items()},
        "confidence": weights.confidence,
        "provenance": dict(weights.provenance),
    }
    if weights.uses_scores:
        content[_LEVELS] = LOG_ODDS
    if weights.evidence:
        content["evidence"] = {name: weights.evidence[name] for name in FEATURES if name in weights.evidence}
    try:
        return with_hash(content, {"provenance": _TIMES} if by_attribute else {})
    except ValueError as error:
        raise WeightsError(f"the weights {error}; use text, finite numbers, null") from error


def _plain(parameters: Parameters) -> dict[str, Any]:
    entry = msgspec.structs.asdict(parameters)
    for name in ("part_bias", "scores", "chance"):
        if not entry[name]:
            del entry[name]
    if entry["text"]:
        del entry["text"]
    return entry
