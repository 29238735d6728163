# SPDX-License-Identifier: Apache-2.0
"""What the tests of the review page share."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.review_page import rows, write_votes


@pytest.fixture
def votes(tmp_path: Path) -> Path:
    return write_votes(tmp_path / "votes.jsonl", rows())
