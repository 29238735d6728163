# SPDX-License-Identifier: Apache-2.0
"""The command line against a deployment that ``quorum up`` serves, every command a process of its own."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from support.command import quorum, quorum_json, start, wait_for_note
from support.command import up as serving
from support.deployment import ATTRIBUTES, said, table, title, write_deployment, write_jsonl
from support.traces import listening, prefix_of_process, session_processes, shared_memory

from quorum.deployment import load_deployment
from quorum.server.runfile import find_running
from quorum.serving.admission import admission_of
from quorum.votes import read_votes

MEMBERS = ("alpha", "beta", "gamma")
MANY = 800
"""Rows that are asked for seconds, one at a time."""


@dataclass
class Up:
    """A deployment that a ``quorum up`` serves."""

    folder: Path
    process: subprocess.Popen[str]

    def quorum(self, *arguments: str | Path, **how: Any) -> tuple[str, str]:
        return quorum(self.folder, *arguments, **how)

    def json(self, *arguments: str | Path, **how: Any) -> Any:
        return quorum_json(self.folder, *arguments, **how)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("cli")
    write_deployment(folder, {name: {} for name in MEMBERS}, rows=table(MEMBERS, products=60))
    with serving(folder) as process:
        yield Up(folder, process)


def test_status_tells_channels_versions_and_members(up: Up) -> None:
    report = up.json("status")
    assert report["channels"]["quorum"] == {"pinned": 1, "answers": True, "version": 1}
    assert report["versions"]["1"]["state"] == "READY"
    assert [report["members"][m]["state"] for m in MEMBERS] == ["READY"] * 3
    out, _ = up.quorum("status")
    assert all(word in out for word in ("quorum_canary", "gamma", "READY", "majority"))


def test_status_names_a_change_of_members_that_the_server_does_not_run(up: Up) -> None:
    path = up.folder / "deploy.yaml"
    before = path.read_text("utf-8")
    data = yaml.safe_load(before)
    data["members"].append(data["members"][0] | {"name": "delta"})
    try:
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
        assert "deploy.yaml (delta/1/.gitkeep, " in up.json("status")["differs"]
    finally:
        path.write_text(before, encoding="utf-8")
    assert "differs" not in up.json("status")


def test_ask_shows_answer_and_votes(up: Up) -> None:
    result = up.json("ask", title(4), "--attributes", "color,size")
    assert list(result["attributes"]) == ["color", "size"]
    votes = result["attributes"]["color"]["votes"]
    assert {m: votes[m]["value"] for m in MEMBERS} == {m: said(i, 4, "color") for i, m in enumerate(MEMBERS)}
    out, err = up.quorum("ask", title(4))
    assert all(word in out for word in (*ATTRIBUTES, *MEMBERS, "brand-4"))
    assert "weights version 1" in err


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_extract_answers_every_row_in_order(up: Up, suffix: str) -> None:
    source, out, votes = (up.folder / f"{name}.{suffix}" for name in ("in", "out", "votes-of"))
    votes = votes.with_suffix(f".{suffix}.jsonl")
    rows = [{"product": f"p{p}", "category": "shoes" if p % 2 else "", "title": title(p)} for p in range(30)]
    if suffix == "csv":
        with source.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        write_jsonl(source, rows)
    done = up.json("extract", source, "--out", out, "--votes", votes)
    given = done.pop("voted"), sum(sum(found.values()) for found in done.pop("abstained").values())
    assert (done.pop("decided"), done.pop("undecided")) == (30 * len(ATTRIBUTES), {})
    assert done.pop("spent")["calls"] == 30 * len(MEMBERS)
    assert done == {
        "ended": "complete", "rows": 30, "answered": 30, "voteless": 0, "failed": 0, "bad": 0, "left": 0,
        "asked": 30, "outputs": [str(out), str(votes)], "job": f"{out}.job", "errors": {},
        "weights": {"1": 30},
    }  # fmt: skip
    with out.open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file)) if suffix == "csv" else [json.loads(line) for line in file]
    assert [row["title"] for row in found] == [row["title"] for row in rows]
    asked = up.json("ask", title(7), "--category", "shoes")["attributes"]
    for attribute in ATTRIBUTES:
        row = found[7]
        value = row[attribute] if suffix == "csv" else row["attributes"][attribute]["value"]
        assert value == asked[attribute]["value"]
    cells = {(c.product, c.attribute): c.values for c in read_votes(votes).cells}
    assert len(cells) == 30 * len(ATTRIBUTES)
    empty = sum(values.count(None) for values in cells.values())
    assert given == (len(cells) * len(MEMBERS) - empty, empty)
    for p in range(30):
        for attribute in ATTRIBUTES:
            assert cells[f"p{p}", attribute] == tuple(said(m, p, attribute) for m in range(3))


def test_extract_lists_a_row_that_no_server_takes_and_goes_on(up: Up) -> None:
    rows = [{"title": title(0)}, {"title": "x" * 40_000}, {"title": title(2)}]
    source, out = write_jsonl(up.folder / "bad.jsonl", rows), up.folder / "bad-out.jsonl"
    done = up.json("extract", source, "--out", out, code=1)
    assert (done["answered"], done["failed"], done["bad"]) == (2, 0, 1)
    assert [json.loads(line)["title"] for line in out.read_text("utf-8").splitlines()] == [title(0), title(2)]
    (dead,) = Path(f"{out}.dead.jsonl").read_text("utf-8").splitlines()
    assert json.loads(dead)["row"] == 2
    assert "32768" in json.loads(dead)["reason"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_extract_that_is_interrupted_goes_on(up: Up, number: signal.Signals) -> None:
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored here, as under nohup")
    rows = [{"sku": f"s{i}", "title": title(i % 60)} for i in range(MANY)]
    source, out = write_jsonl(up.folder / "long.jsonl", rows), up.folder / f"long-{number.name}.jsonl"
    command = ("extract", source, "--out", out, "--json", "--part-rows", "100")
    # One at a time, so that the signal comes before the end.
    process = start(up.folder, *command, "--concurrency", "1")
    end = time.monotonic() + 60
    journal = Path(f"{out}.job") / "parts"
    while not (journal.exists() and any(path.stat().st_size > 5000 for path in journal.iterdir())):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(number)
    printed, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    done = json.loads(printed)
    assert (done["ended"], done["failed"], done["left"]) == ("interrupted", 0, MANY - done["answered"])
    assert done["left"] > 0
    assert "run the same command again" in err
    assert not out.exists()
    again = up.json(*command[:-3], "--part-rows", "100")
    assert (again["answered"], again["asked"]) == (MANY, done["left"])
    found = [json.loads(line)["product"] for line in out.read_text("utf-8").splitlines()]
    assert found == [f"s{i}" for i in range(MANY)]


def test_from_votes_to_new_weights_and_back(up: Up) -> None:
    learned = up.json("learn", "votes.jsonl", "--out", "weights.json")
    assert learned["method"] in ("loglinear", "em", "majority")
    published = up.json("publish", "weights.json")
    version = published["version"]
    assert (published["action"], published["before"], published["already"]) == ("publish", None, False)
    assert up.json("canary", str(version))["before"] == 1
    assert up.json("ask", title(0), "--channel", "quorum_canary")["weights_version"] == version
    assert up.json("promote", str(version))["before"] == 1
    status = up.json("status")
    assert status["channels"]["quorum"]["version"] == version
    assert status["versions"][str(version)]["content_hash"] == learned["content_hash"]
    assert up.json("rollback")["version"] == 1
    assert up.json("ask", title(0))["weights_version"] == 1
    events = up.json("history")
    assert [e["action"] for e in events[-4:]] == ["publish", "canary", "promote", "rollback"]


def test_publish_refuses_damaged_weights_by_name(up: Up) -> None:
    damaged = up.folder / "damaged.json"
    damaged.write_text('{"schema_version": 1', encoding="utf-8")
    _, err = up.quorum("publish", damaged, code=1)
    assert "damaged.json" in err
    assert "quorum learn" in err
    _, err = up.quorum("publish", "missing.json", code=1)
    assert "missing.json" in err


def test_promote_of_an_unknown_version_lists_the_known(up: Up) -> None:
    _, err = up.quorum("promote", "99", code=1)
    assert "no version 99" in err
    assert "published are: 1" in err


def test_a_second_up_is_refused(up: Up) -> None:
    _, err = up.quorum("up", code=1)
    assert "served already" in err
    assert "for a second server use a folder of its own" in " ".join(err.split())
    status = up.json("status")
    assert status["channels"]["quorum"]["answers"]
    running = find_running(load_deployment(up.folder / "deploy.yaml"))
    assert running
    assert status["pid"] == running.pid
    assert psutil.Process(running.pid).ppid() == status["up_pid"]
    assert f"`quorum up` (pid {status['up_pid']})" in err
    assert f"`kill {status['up_pid']}`" in err
    out, _ = up.quorum("status")
    assert f"tritonserver pid {running.pid} " in out
    assert f"quorum up pid {status['up_pid']} " in out


def test_the_note_with_the_key_is_for_its_owner_only(up: Up) -> None:
    assert (up.folder / ".quorum" / "server.json").stat().st_mode & 0o077 == 0


def test_a_wrong_admin_key_is_named(up: Up, tmp_path: Path) -> None:
    """From another folder there is no note: the key comes from the environment."""
    spec = load_deployment(up.folder / "deploy.yaml")
    running = find_running(spec)
    assert running
    data = yaml.safe_load((up.folder / "deploy.yaml").read_text("utf-8"))
    data["server"] = {"grpc_port": running.endpoint.grpc_port}
    data["repository"] = str(spec.repository_path)
    (tmp_path / "deploy.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    _, err = quorum(tmp_path, "status", code=1, QUORUM_ADMIN_KEY="guess")
    assert "QUORUM_ADMIN_KEY" in err
    right = quorum_json(tmp_path, "status", QUORUM_ADMIN_KEY=running.endpoint.admin_key)
    assert right["channels"]["quorum"]["answers"]
    assert "differs" not in right
    assert right["pid"] is None


def test_without_a_server_commands_say_so(tmp_path: Path) -> None:
    deploy = write_deployment(tmp_path, {"alpha": {}})
    deploy.write_text(deploy.read_text("utf-8").replace("grpc_port: 0", "grpc_port: 9"), encoding="utf-8")
    _, err = quorum(tmp_path, "ask", "a shoe", code=1)
    assert "127.0.0.1:9" in err


def test_up_shows_why_triton_did_not_start(tmp_path: Path) -> None:
    write_deployment(tmp_path, {"alpha": {"options": {"votes": "nowhere.jsonl"}}})
    quorum(tmp_path, "render")
    _, err = quorum(tmp_path, "up", code=1)
    assert "nowhere.jsonl" in err
    assert not (tmp_path / ".quorum" / "server.json").exists()


def test_sigterm_drains_and_leaves_nothing(tmp_path: Path) -> None:
    write_deployment(
        tmp_path, {"alpha": {"options": {"latency_ms": 400, "latency_shape": "constant"}}, "beta": {}}
    )
    quorum(tmp_path, "render")
    process = start(tmp_path, "up", QUORUM_HOST="127.0.0.2")
    try:
        wait_for_note(tmp_path, process)
        running = find_running(load_deployment(tmp_path / "deploy.yaml"))
        assert running
        assert running.endpoint.host == "127.0.0.2", "the variable goes before server.host"
        prefix = prefix_of_process(running.pid)
        assert len(shared_memory(prefix)) > 2
        asking = start(tmp_path, "ask", title(2), "--json")
        admission, held = admission_of(running.pid), 0
        # The supervision asks too, but its questions are inside for a moment only.
        while asking.poll() is None and held < 10:
            held = held + 1 if admission.inside(time.monotonic_ns()) else 0
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGTERM)
    out, err = asking.communicate(timeout=60)
    assert asking.returncode == 0, err
    assert json.loads(out)["attributes"]["brand"]["votes"]["alpha"]["status"] == "ANSWERED"
    _, said_last = process.communicate(timeout=60)
    assert process.returncode == 0, said_last
    assert session_processes(running.pid) == set()
    assert shared_memory(prefix) == set()
    assert listening(running.endpoint) == []
    assert find_running(load_deployment(tmp_path / "deploy.yaml")) is None
    assert [p.name for p in (tmp_path / ".quorum").iterdir()] == ["server.log"]
