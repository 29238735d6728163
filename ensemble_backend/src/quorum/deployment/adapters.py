# SPDX-License-Identifier: Apache-2.0
"""Check which adapters answer which attributes, and which members share an LLM in memory."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping

import msgspec

from quorum.runtimes.option_base import Options
from quorum.runtimes.options import SHARED


def unknown_attributes(options: Options, known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Find adapters of attributes that the catalogue does not have: pairs of attribute and problem."""
    for name in options.adapter_by_attribute:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            fix = f"did you mean {close[0]!r}?" if close else "add it to `attributes`, or take it out here"
            yield name, f"the catalogue has no attribute {name!r}; {fix}"


def check_shared(runtime: str, members: Mapping[str, Options]) -> None:
    """Raise ValueError for members, by name, that share an LLM but cannot.

    They differ in options that belong to the LLM, or want different adapters where it has only one at a time.
    """
    (first_name, first), *others = members.items()
    adapters = {folder for own in members.values() for folder in own.adapters_used}
    if others and len(adapters) > 1 and not first.adapters_at_once:
        raise ValueError(
            f"members {first_name!r} and {others[0][0]!r} share the model {first.llm!r} in memory, but"
            " continuous batches cannot mix their adapters; set `batching: dynamic` in all of them, or"
            " `shared: false` in all but one"
        )
    for name, other in others:
        per_member = SHARED[runtime]
        differ = [
            key
            for key, value in msgspec.structs.asdict(first).items()
            if key not in per_member and getattr(other, key) != value
        ]
        if differ:
            apart = ", or `shared: false` in one" if "shared" in first.__struct_fields__ else ""
            raise ValueError(
                f"members {first_name!r} and {name!r} share the model {first.llm!r} in memory but"
                f" differ in {', '.join(differ)}; set the same in both{apart} (they may differ in"
                f" {', '.join(sorted(per_member))})"
            )
