# SPDX-License-Identifier: Apache-2.0
"""The studies' commands: what they refuse, what they write, and the arithmetic of growth."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from quorum.server.install import find_install
from quorum_bench.cli import study_learning
from quorum_bench.cli.app import app
from quorum_bench.studies import address_layout, isolation, voting_speed
from quorum_bench.studies.footprint import Footprint, growth

STUDIES = (
    "simulated-members",
    "voting",
    "redeploys",
    "address-layout",
    "isolation",
    "encoder",
    "gateway",
    "scores",
    "labels-chosen",
    "evidence",
    "task-tables",
)


@pytest.mark.parametrize("name", STUDIES)
def test_help_has_an_example(name):
    shown = CliRunner().invoke(app, ["study", name, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert f"quorum-bench study {name}" in shown.output


def test_the_label_part_needs_votes():
    refused = CliRunner().invoke(app, ["study", "simulated-members", "--part", "label"])
    assert refused.exit_code == 2
    assert "--votes FILE" in refused.output


def test_task_tables_need_the_public_data():
    refused = CliRunner().invoke(app, ["study", "task-tables"], env={"QUORUM_DATA": None})
    assert refused.exit_code == 2
    assert "--data FOLDER" in refused.output


def test_figures_of_a_part_are_added_to_the_file(tmp_path, monkeypatch):
    rows = [{"cells": 1000, "name": "em", "seconds": 0.001, "least": 0.001, "most": 0.002, "runs": 5}]
    monkeypatch.setattr(
        voting_speed, "scale", lambda cells, repeats: [row | {"runs": repeats} for row in rows]
    )
    file = tmp_path / "voting.json"
    file.write_text(json.dumps({"kit": {"result": "kept"}}))
    done = CliRunner().invoke(
        app, ["study", "voting", "--part", "scale", "--repeats", "7", "--json", str(file)]
    )
    assert done.exit_code == 0, done.output
    assert "1.00 (1000.0)" in done.output
    written = json.loads(file.read_text())
    assert written["kit"] == {"result": "kept"}
    assert written["scale"]["result"][0]["runs"] == 7
    assert written["scale"]["machine"]["cores"]


def test_layouts_that_cannot_be_chosen_are_refused(monkeypatch):
    monkeypatch.setattr(address_layout, "can_choose", lambda: False)
    refused = CliRunner().invoke(app, ["study", "address-layout"])
    assert refused.exit_code == 2
    assert "setarch" in refused.output


def test_each_part_of_a_study_is_an_option():
    from quorum_bench.studies.simulated_members import PARTS

    assert tuple(study_learning.MembersPart) == PARTS


def test_growth_is_the_slope_after_the_warm_up():
    def at(step):
        # A jump in the warm-up, then 3 KiB a step with a ripple; handles stay.
        server = 1000 + (500 if step < 20 else 3 * step + step % 2)
        return Footprint(server, 0, 4, 100, 7, 0)

    slopes = growth([at(step) for step in range(120)], 20)
    slope, low, high = slopes["server_kib"]
    assert low <= 3 <= high
    assert slope == pytest.approx(3, abs=0.01)
    assert slopes["handles"] == (0, 0, 0)


def test_a_machine_without_tritons_client_can_start_the_gpu_check():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('tritonclient', 'grpc', 'pyarrow', 'yaml')))\n"
        "import quorum_bench.cli.gpu_check"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_part_that_the_study_of_isolation_does_not_have_is_refused():
    refused = CliRunner().invoke(app, ["study", "isolation", "--part", "llm"])
    assert refused.exit_code == 2
    assert "no part llm; use llms, thinking, at-once" in refused.output


def test_a_server_without_workers_has_the_studys_backend_for_members(tmp_path):
    found = find_install()
    install = isolation.InStepInstall(found.binary, found.backends, found.stub, found.libraries)
    backends = install.prepare_backends(tmp_path)
    step = (backends / "quorum_member" / "model.py").read_text()
    assert "isolated=False" in step
    compile(step, "model.py", "exec")
    assert "isolated" not in (backends / "quorum_gate" / "model.py").read_text()
