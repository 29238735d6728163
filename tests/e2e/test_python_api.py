# SPDX-License-Identifier: Apache-2.0
"""The code of docs/guides/python-api.md runs as it stands, on recorded members."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from support.deployment import table, title, write_deployment

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "python-api.md"
MEMBERS = ("alpha", "beta", "gamma")


def test_the_guide_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_deployment(tmp_path, {name: {} for name in MEMBERS}, rows=table(MEMBERS, products=60))
    rows = "".join(f"p{p},{title(p)}\n" for p in range(12))
    (tmp_path / "listings.csv").write_text("product,title\n" + rows, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUORUM_ADMIN_KEY", raising=False)
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.S)
    assert len(blocks) == 3
    scope: dict[str, object] = {}
    for block in blocks:
        exec(block, scope)
    printed = capsys.readouterr().out
    assert "12 answered, 0 failed" in printed
    assert "['render', 'publish', 'canary', 'promote']" in printed
    with (tmp_path / "answers.csv").open(encoding="utf-8", newline="") as file:
        assert [row["product"] for row in csv.DictReader(file)] == [f"p{p}" for p in range(12)]
