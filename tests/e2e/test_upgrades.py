# SPDX-License-Identifier: Apache-2.0
"""A deployment that an earlier release left is served as it was: same version, same votes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support import command

UPGRADES = Path(__file__).parents[1] / "upgrades"
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif("QUORUM_LONG" not in os.environ, reason="a server for each release: QUORUM_LONG=1"),
]


@pytest.mark.parametrize("release", sorted(folder.name for folder in UPGRADES.iterdir()))
def test_a_server_answers_with_the_version_that_was_live(release: str, tmp_path: Path) -> None:
    folder = shutil.copytree(UPGRADES / release, tmp_path / "deployment")
    with command.up(folder):
        asked = command.quorum_json(folder, "ask", 'product 2 "größe" № 2 👟', "-a", "brand")
    assert asked["attributes"]["brand"]["value"] == "brand-2"
    assert asked["weights_version"] == 2
