# SPDX-License-Identifier: Apache-2.0
"""What the tests of runs share."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.deployment import write_deployment
from support.runs import ROWS, answer, serve

import quorum
from quorum.bulk import run as job_run


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> quorum.Deployment:
    """A deployment whose server decides by weights version 1, with fifty listings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job_run, "served_version", lambda *_: 1)
    lines = "".join(f"s{i},{i}\n" for i in range(ROWS))
    (tmp_path / "in.csv").write_text("sku,title\n" + lines, "utf-8")
    return quorum.load_deployment(write_deployment(tmp_path, {"alpha": {}, "beta": {}}))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts of all calls, in order; each is answered."""
    texts: list[str] = []
    serve(monkeypatch, texts, answer)
    return texts
