# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from quorum.repository.state import RetrieverState, State, dump_state
from quorum.serving.share import STATE_FILE, CanaryShare
from quorum_contract import CANARY, RECOMMEND, RECOMMEND_CANARY, STABLE

PLAIN = State((1,), {STABLE: 1, CANARY: 1}, 0.75)


def write(folder: Path, share: float) -> None:
    """Replace the file as a rollout does."""
    served = RetrieverState((1,), {RECOMMEND: 1, RECOMMEND_CANARY: 1}, share)
    new = folder / "new"
    new.write_text(dump_state(replace(PLAIN, retriever=served)), "utf-8")
    new.rename(folder / STATE_FILE)


def test_the_share_is_the_retrievers_and_follows_the_file(tmp_path: Path) -> None:
    share = CanaryShare(tmp_path)
    (tmp_path / STATE_FILE).write_text(dump_state(PLAIN), "utf-8")
    assert share.read() == 0.0
    for number in (0.25, 0.5, 0.0):
        write(tmp_path, number)
        assert share.read() == number


@pytest.mark.parametrize("harm", [lambda path: path.unlink(), lambda path: path.write_text("{")])
def test_while_the_file_cannot_be_read_the_last_share_holds(
    tmp_path: Path, harm: object, caplog: pytest.LogCaptureFixture
) -> None:
    share = CanaryShare(tmp_path)
    write(tmp_path, 0.25)
    assert share.read() == 0.25
    assert callable(harm)
    harm(tmp_path / STATE_FILE)
    assert share.read() == 0.25
    assert "cannot be read" in caplog.text
    write(tmp_path, 0.5)
    assert share.read() == 0.5
