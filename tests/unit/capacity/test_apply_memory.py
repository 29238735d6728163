# SPDX-License-Identifier: Apache-2.0
"""What an apply loads has to fit the memory that is free next to the members that serve."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gpu_support import H100, LLAMA_8B, QWEN_7B, deployment, member

from quorum.hardware import GIB
from quorum.operations.apply_memory import check_memory
from quorum.repository.render import render
from quorum.repository.store import Store
from quorum.rollout.graph_change import find_change
from quorum.rollout.lock import RolloutError

NEW = {"color": {"values": ["red"]}, "material": {}}


def llm(name: str, **more: Any) -> dict[str, Any]:
    """About 27 GiB, of which 8 are its KV cache."""
    return {**member(name, LLAMA_8B, kv_cache_gib=8), **more}


ALONE = [llm("a")]
CASES: dict[str, tuple[dict[str, Any], list[dict[str, Any]], int, bool]] = {
    "a limit, on a full GPU": ({"gate": {"max_in_flight": 5}}, ALONE, 79, True),
    "an option, next to the old": ({}, [llm("a", timeout_s=9)], 40, True),
    "an option, without room": ({}, [llm("a", timeout_s=9)], 65, False),
    "a member joins": ({}, [llm("a"), llm("b", prompt="bare")], 40, True),
    "the catalogue: a copy, then the new": ({"attributes": NEW}, ALONE, 40, True),
    "the catalogue: no room for the copy": ({"attributes": NEW}, ALONE, 65, False),
}


@pytest.mark.parametrize("case", CASES)
def test_only_what_is_added_counts(tmp_path: Path, case: str) -> None:
    more, members, used, fits = CASES[case]
    old = deployment(tmp_path, *ALONE)
    render(old)
    new = deployment(tmp_path, *members, **more)
    change = find_change(new, Store(old.repository_path))
    gpus = [replace(H100, used=used * GIB)]
    if fits:
        check_memory(new, change, gpus=gpus, installed="1.2.1")
        return
    with pytest.raises(RolloutError, match="next to the members that serve"):
        check_memory(new, change, gpus=gpus, installed="1.2.1")


def test_a_member_that_joins_with_another_catalogue_is_loaded_twice(tmp_path: Path) -> None:
    old = deployment(tmp_path, *ALONE)
    render(old)
    new = deployment(tmp_path, llm("a"), member("b", QWEN_7B, kv_cache_gib=8), attributes=NEW)
    change = find_change(new, Store(old.repository_path))
    assert {"a", "b"} <= {*change.copied}
    with pytest.raises(RolloutError, match=r"a__next .*b__next .*a .*b "):
        check_memory(new, change, gpus=[replace(H100, used=27 * GIB)], installed="1.2.1")
