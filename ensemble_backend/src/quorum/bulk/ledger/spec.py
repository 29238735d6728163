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


def first_difference(before: Any, now: Any, place: str = "") -> str:
    """Where two JSON values differ first, in words; empty where they are the same."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*before, *now]):
            inside = f"{place}.{name}" if place else name
            if found := first_difference(before.get(name), now.get(name), inside):
                return found
        return ""
    if isinstance(before, list) and isinstance(now, list):
        for number, (old, new) in enumerate(zip_longest(before, now)):
            if found := first_difference(old, new, f"{place}[{number}]"):
                return found
        return ""
    if before == now:
        return ""
    return f"{place} was {_short(before)}, is {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


_SHOWN = 60
