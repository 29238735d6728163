# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from quorum.cli.console import CommandError
from quorum.cli.options import parse_share

NAME = "OPENBLAS_NUM_THREADS"


@pytest.mark.parametrize(
    ("text", "share"),
    [("5%", 0.05), ("0.05", 0.05), ("0%", 0), ("100%", 1), ("1", 1), ("0", 0), ("2.5%", 0.025)],
)
def test_shares_as_people_write_them(text: str, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["5", "-1%", "101%", "", "%", "nan", "nan%", "five"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(CommandError, match="such as 5% or"):
        parse_share(text)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="OpenBLAS starts no threads on one core")
def test_solvers_use_one_thread_and_other_programs_are_not_told() -> None:
    show = "import os; from quorum.cli import app; print(len(os.listdir('/proc/self/task')), os.getenv(name))"
    found = {}
    for given in (None, "2"):
        more = {} if given is None else {NAME: given}
        environment = {
            key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")
        } | more
        command = [sys.executable, "-c", f"name = {NAME!r}; {show}"]
        found[given] = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout
    assert found == {None: "1 None\n", "2": "2 2\n"}


def test_probes_do_not_take_a_port_of_the_server(folder: Path, run: Any) -> None:
    code, _, err = run("up", "--probe-port", 9)
    assert code == 1
    assert "--probe-port 9 is server.grpc_port of deploy.yaml; choose another" in err
