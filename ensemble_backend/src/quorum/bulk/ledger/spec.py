# SPDX-License-Identifier: Apache-2.0
"""What a bulk job is of: everything that must be the same when it goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from quorum.bulk.inputs.scan import Scan
from quorum.bulk.outputs.targets import Outputs
from quorum.tasks.catalogue import Catalogue
from quorum_contract import STABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What a job is of. Weights may change if the user accepts it; nothing else may.

    Attributes:
        scan: The input and its parts.
        mapping: Which columns are text, id, category and gold, as plain JSON values.
        attributes: What is asked.
        catalogue: Says what answers mean; its hash, over all of it, is compared.
        members: The members that vote, in the deployment's order.
        outputs: What is written.
        channel: The channel that is asked.
        canary_share: Share of products for the canary, in [0, 1]; "served"; None: none.
        lazy: Whether members are asked in rows.
    """

    scan: Scan
    mapping: Mapping[str, Any]
    attributes: tuple[str, ...]
    catalogue: Catalogue
    members: tuple[str, ...]
    outputs: Outputs
    channel: str = STABLE
    canary_share: float | str | None = None
    lazy: bool = False

    def to_json(self) -> dict[str, Any]:
        """What is compared, as plain JSON values."""
        whole: dict[str, Any] = {
            "input": self.scan.to_json(),
            "columns": dict(self.mapping),
            "attributes": self.attributes,
            "catalogue": hash_of(self.catalogue.to_json()),
            "members": self.members,
            "outputs": self.outputs.to_json(),
            "channel": self.channel,
            "canary_share": self.canary_share,
            "lazy": self.lazy,
        }
        plain: dict[str, Any] = json.loads(json.dumps(whole))
        return plain


def hash_of(data: Any) -> str:
    """``sha256:...`` over plain JSON values; the order of keys does not count."""
    raw = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def difference_in_words(before: Any, now: Any) -> str:
    """Where two jobs, as :meth:`JobSpec.to_json` has them, differ first; empty where they are the same."""
    for place, name in _NAMES.items():
        old, new = _at(before, place), _at(now, place)
        if old != new:
            was, are = ("were", "are") if name == "the members" else ("was", "is")
            return f"{name} {was} {_short(old)}, {are} {_short(new)}"
    if before.get("catalogue") != now.get("catalogue"):
        return "the catalogue of deploy.yaml (attributes, values, notes) was another"
    return _first_difference(before, now)


_NAMES = {
    ("columns", "files"): "the input",
    ("attributes",): "--attributes",
    ("columns", "columns", "text"): "--text",
    ("columns", "columns", "id"): "--id",
    ("columns", "columns", "category"): "--category",
    ("columns", "read", "format"): "--format",
    ("columns", "read", "encoding"): "--encoding",
    ("columns", "read", "delimiter"): "--delimiter",
    ("columns", "read", "quote"): "--quote",
    ("columns", "part_rows"): "--part-rows",
    ("lazy",): "--lazy",
    ("channel",): "--channel",
    ("canary_share",): "--canary-share",
    ("outputs", "answers", "name"): "--out",
    ("outputs", "votes", "name"): "--votes",
    ("outputs", "escaped"): "--escape",
    ("members",): "the members",
}
"""Place in the JSON of a job -> how the command line calls it, in the order in which they are compared."""


def _at(data: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _first_difference(before: Any, now: Any, place: str = "") -> str:
    """Where two JSON values differ first, by its place in them; empty where they are the same."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*before, *now]):
            inside = f"{place}.{name}" if place else name
            if found := _first_difference(before.get(name), now.get(name), inside):
                return found
        return ""
    if isinstance(before, list) and isinstance(now, list):
        for number, (old, new) in enumerate(zip_longest(before, now)):
            if found := _first_difference(old, new, f"{place}[{number}]"):
                return found
        return ""
    return "" if before == now else f"{place} was {_short(before)}, is {_short(now)}"


def _short(value: Any) -> str:
    """A value as it stands on the command line."""
    if value is None or isinstance(value, bool) or value == []:
        return "given" if value else "not given"
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


_SHOWN = 200
