# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quorum.operations.flywheel_steps import STEPS_FILE, FlywheelError, Steps


def test_a_step_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    done: list[int] = []

    def turn() -> Any:
        return Steps(tmp_path).do("judge", {"a": 1}, None, lambda: done.append(1), lambda: {"pairs": 3})

    assert turn() == turn() == {"pairs": 3}
    assert done == [1]


@pytest.mark.parametrize(
    "step", [None, 7, {}, {"inputs": []}, {"inputs": {}, "result": None}, {"inputs": {}, "seconds": "1"}]
)
def test_a_damaged_file_is_named(tmp_path: Path, step: Any) -> None:
    content = {"kind": "quorum.flywheel", "schema_version": 1, "steps": {"judge": step}}
    (tmp_path / STEPS_FILE).write_text(json.dumps(content), "utf-8")
    with pytest.raises(FlywheelError, match=r"flywheel\.json: cannot be read"):
        Steps(tmp_path)
