# SPDX-License-Identifier: Apache-2.0
"""`quorum demo` finds its code in a checkout, or says that it needs one."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def test_without_the_examples_it_says_where_it_runs(folder: Path, run: Any) -> None:
    code, out, err = run("demo")
    assert (code, out) == (1, "")
    assert "examples/demo/demo_run.py" in err
    assert "in a checkout of the repository" in " ".join(err.split())
