# SPDX-License-Identifier: Apache-2.0
"""Adapters of runtime ``hf`` on a real server: two members share a base, a third has one per attribute."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from support.checkpoints import write_adapter, write_checkpoint
from support.deployment import Live, running, write_deployment

from quorum_contract import Status

VALUES = {"color": ["red", "navy blue", "rosé", "green"], "gender": ["women", "men", "unisex"]}
COLOR, GENDER = VALUES
ADAPTERS = {
    "one": {"lora": "adapter 1"},
    "two": {"lora": "adapter 2"},
    "both": {"lora": "adapter 1", "adapters": {GENDER: "adapter 2"}, "shared": False},
}
TEXTS = [f"shoe number {number}" for number in range(4)]
pytestmark = [
    pytest.mark.timeout(900),
    # Found without importing them, which takes seconds in every process that collects the tests.
    pytest.mark.skipif(
        not (find_spec("torch") and find_spec("peft")),
        reason="PyTorch is not in the environment that serves: run `make setup-hf`",
    ),
]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("adapters")
    write_checkpoint(folder / "base")
    for seed in (1, 2):
        write_adapter(folder / f"adapter {seed}", folder / "base", seed=seed)
    base = {"model": "base", "device": "cpu", "max_new_tokens": 64}
    members = {
        name: {"runtime": "hf", "prompt": "bare", "options": {**base, **own}}
        for name, own in ADAPTERS.items()
    }
    attributes = {name: {"values": values} for name, values in VALUES.items()}
    with running(write_deployment(folder, members, rows=[], attributes=attributes)) as live:
        yield live


def test_members_share_a_base_and_attributes_have_adapters(live: Live) -> None:
    loaded = {model.name for model in live.control.index() if model.state == "READY"}
    assert {"quorum_shared_one", "both"} <= loaded
    assert not {"one", "two"} & loaded
    differ = 0
    for text in TEXTS:
        together = live.ask(text, [COLOR, GENDER])
        for name, votes in together.votes.items():
            for (value, status), values in zip(votes, VALUES.values(), strict=True):
                assert status == Status.ANSWERED, name
                assert value in [*values, "n/a"]
        # Each part is asked as a question of its own, so it gets the answer of a member with that adapter.
        (color,) = live.ask(text, [COLOR]).votes["one"]
        (gender,) = live.ask(text, [GENDER]).votes["two"]
        assert together.votes["both"] == [color, gender]
        differ += together.votes["one"] != together.votes["two"]
    assert differ
