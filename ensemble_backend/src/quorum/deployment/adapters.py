# SPDX-License-Identifier: Apache-2.0
"""Check which adapters answer which attributes, and which members share an LLM in memory."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping

import msgspec

from quorum.runtimes.option_base import Options
from quorum.runtimes.options import SHARED, AdaptedOptions


def unknown_attributes(options: Options, known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Find adapters of attributes that the catalogue does not have: pairs of attribute and problem."""
    for name in options.adapter_by_attribute:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            fix = f"did you mean {close[0]!r}?" if close else "add it to `attributes`, or take it out here"
            yield name, f"the catalogue has no attribute {name!r}; {fix}"


def llm_of(runtime: str, member: str, options: Options) -> tuple[object, ...]:
    """A key that is the same for members which share an LLM in memory.

    Members of ``tensorrt_llm`` on one model always share it (:func:`check_shared`). Those of ``hf`` share it
    if they agree in all options that belong to it, and in their adapters where batches cannot mix them.
    """
    if runtime not in SHARED or not options.shared:
        return "", member
    if not isinstance(options, AdaptedOptions):
        return runtime, options.llm
    own = {k: v for k, v in msgspec.structs.asdict(options).items() if k not in SHARED[runtime]}
    return runtime, *own.items(), None if options.adapters_at_once else options.adapters_used


def check_shared(runtime: str, members: Mapping[str, Options]) -> None:
    """Raise ValueError for members, by name, that share an LLM but differ in options that belong to it."""
    (first_name, first), *others = members.items()
    for name, other in others:
        per_member = SHARED[runtime]
        differ = [
            key
            for key, value in msgspec.structs.asdict(first).items()
            if key not in per_member and getattr(other, key) != value
        ]
        if differ:
            raise ValueError(
                f"members {first_name!r} and {name!r} share the model {first.llm!r} in memory but differ in"
                f" {', '.join(differ)}; set the same in both (they may differ in"
                f" {', '.join(sorted(per_member))})"
            )
