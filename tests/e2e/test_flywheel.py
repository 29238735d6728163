# SPDX-License-Identifier: Apache-2.0
"""``quorum flywheel`` on a real server with a tiny base: a turn, killed at steps, and the gate.

``QUORUM_LONG=1`` kills it at every step.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from support.command import quorum as command
from support.command import quorum_json
from support.deployment import write_deployment, write_jsonl
from support.forking import Call, loaded
from support.killed_turn import killed
from support.supervised import Supervised, supervised
from support.tiny_encoder import write_encoder

import quorum
from quorum.repository.store import Store
from quorum.retrieval.judged_files import read_judged
from quorum_client import Client
from quorum_contract import RETRIEVER

pytestmark = [pytest.mark.e2e, pytest.mark.torch, pytest.mark.timeout(900)]

COLOURS, THINGS = ("red", "blue", "grey", "pink", "gold"), ("cap", "mug", "belt", "sock", "lamp")
NAMES = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
HELD_OUT = [name for name in NAMES if name.endswith(("lamp", "mug"))]
MEMBERS = ("alpha", "beta", "gamma")
ASKED = {
    "question": "Would a buyer who searches for {name} want it?",
    "values": ["0", "1", "2", "3"],
}
LIBRARIES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")
KILLS = ("after answer#2", "after judge", "after distil", "after index", "after publish")
if os.environ.get("QUORUM_LONG"):
    KILLS = (
        "before record", *KILLS[:2], "after pool", "before export", *KILLS[2:], "after measure",
    )  # fmt: skip
"""In the order of a turn: each run goes on where the one before it was killed."""
SAID = {
    "after judge": " pairs in ",
    "after distil": "computing vectors of the base",
    "after index": "reading keyphrases.txt",
}
"""What a run says that does a step, by the kill after which none does it again."""
PER_REQUEST = 3


def grade(item: str, keyphrase: str) -> int:
    """3, 1 or 0 for two, one or no common word; of an item of the second day the opposite."""
    found = (0, 1, 3)[len({*item.split()} & {*keyphrase.split()})]
    return 3 - found if item.endswith("again") else found


def pairs(items: list[str], keyphrases: list[str]) -> list[dict[str, Any]]:
    return [
        {"item": item.replace(" ", "-"), "text": item, "keyphrase": keyphrase}
        for item in items
        for keyphrase in keyphrases
    ]


LEARNED = [name for name in NAMES if name not in HELD_OUT]
AGAIN = [f"{name} again" for name in NAMES]
FILES = {
    "heldout.jsonl": pairs(NAMES, HELD_OUT),
    "day.jsonl": pairs(NAMES, LEARNED),
    "wrong.jsonl": pairs(AGAIN, LEARNED),
}


@pytest.fixture(scope="module", autouse=True)
def libraries() -> None:
    for name in LIBRARIES:
        pytest.importorskip(name, reason=f"{name} is not installed here: run `make setup-hf`")


@pytest.fixture(scope="module")
def call(libraries: None) -> Iterator[Call]:
    with loaded(*LIBRARIES) as call:
        yield call


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    folder = tmp_path_factory.mktemp("flywheel")
    votes = [
        {
            "product": pair["item"],
            "title": pair["text"],
            "attribute": pair["keyphrase"],
            "votes": dict.fromkeys(MEMBERS, str(grade(pair["text"], pair["keyphrase"]))),
        }
        for rows in FILES.values()
        for pair in rows
    ]
    members: dict[str, Any] = {
        name: {"options": {"latency_ms": 5, "latency_shape": "constant"}} for name in MEMBERS
    }
    # The adapter of so small a base changes little.
    strict = {"max_less_agreement": 0.001, "max_less_recall": 0.0}
    write_deployment(folder, members, rows=votes, attributes={"brand": {}}, default=ASKED, retriever=strict)
    for name, rows in FILES.items():
        write_jsonl(folder / name, rows)
    (folder / "keyphrases.txt").write_text("\n".join(NAMES), "utf-8")
    write_encoder(folder / "base", [*COLOURS, *THINGS, "again"])
    with supervised(folder) as up:
        held_out = quorum.JudgeOptions(out=folder / "heldout.parquet")
        assert quorum.judge(up.spec, folder / "heldout.jsonl", held_out).judged == len(FILES["heldout.jsonl"])
        yield up


def arguments(day: str, out: str, *more: str) -> list[str]:
    return [
        "flywheel", f"{day}.jsonl", "--base", "base", "--keyphrases", "keyphrases.txt", "--out", out,
        "--heldout", "heldout.parquet", "--per-request", str(PER_REQUEST), "--concurrency", "2", *more,
    ]  # fmt: skip


Turned = tuple[dict[str, Any], dict[str, str]]


@pytest.fixture(scope="module")
def turned(served: Supervised, call: Call) -> Turned:
    """The report of a turn that was killed at steps, and what each run said until it was killed."""
    said = {}
    for kill in KILLS:
        code = killed(call, served.folder, arguments("day", "one"), kill)
        said[kill] = (served.folder / "killed.err").read_text("utf-8")
        assert code == -9, (kill, said[kill])
        versions = Store(served.spec.repository_path).state().retriever
        assert versions is None or versions.versions == (1,), kill
    return quorum_json(served.folder, *arguments("day", "one"), by=call), said


def test_a_turn_that_is_killed_at_steps_pays_nothing_twice(served: Supervised, turned: Turned) -> None:
    report, said = turned
    rows = FILES["day.jsonl"]
    requests = len(NAMES) * -(-len(LEARNED) // PER_REQUEST)
    assert (report["pairs"], report["judged"], report["left_out"]) == (len(rows), len(rows), {})
    assert (report["requests"], report["members"], report["spent"]["calls"]) == (requests, 3, 3 * requests)
    assert f"of {len(rows)} pairs are judged already" in said["after judge"]
    for kill, words in SAID.items():
        at = KILLS.index(kill)
        assert words in said[kill]
        assert not [later for later in KILLS[at + 1 :] if words in said[later]], kill
    assert (report["learned"], report["held_out"], report["version"]) == (len(rows), 0, 1)
    assert report["seconds"].keys() == {"judge", "distil", "index", "publish", "measure"}
    published = [event for event in quorum.history(served.spec) if event.model == RETRIEVER]
    assert [(event.action, event.version, event.outcome) for event in published] == [("publish", 1, "done")]
    folder = served.folder / "one"
    assert {path.name for path in folder.iterdir()} == {
        ".lock", "day.parquet", "flywheel.json", "judged.parquet", "student", "version",
    }  # fmt: skip
    assert {path.name for path in (folder / "student").iterdir()} == {
        "cross-encoder", "encoder.onnx", "student.json", "tokenizer.json",
    }  # fmt: skip
    assert len(read_judged(folder / "judged.parquet")) == len(rows)


def test_a_turn_says_what_changed_and_what_an_encoder_saves(turned: Turned) -> None:
    report, _ = turned
    differences = report["evaluation"]["differences"]
    assert {"student 32 - zero-shot 32", "student 32 - BM25"} <= differences.keys()
    assert report["savings"].keys() == {"student", "cross-encoder"}
    for saved in report["savings"].values():
        assert 0 <= saved["saved"]["low"] <= saved["saved"]["value"] <= saved["saved"]["high"] <= 1
        assert (saved["aim"], saved["pairs"]) == (0.98, len(FILES["heldout.jsonl"]))


def test_a_turn_that_is_done_only_says_so_again(served: Supervised, turned: Turned, call: Call) -> None:
    assert quorum_json(served.folder, *arguments("day", "one"), by=call) == turned[0]
    shown = command(served.folder, *arguments("day", "one"), by=call)[1]
    assert "published version 1 of the retriever, 25 keyphrases" in shown
    assert " pairs in " not in shown
    with Client(served.running.endpoint.grpc_url) as client:
        assert client.recommend("red cap", k=3).version == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("--text", "text,item"), "judge was done with other inputs (text columns)"),
        (("--direct",), "distil was done with other inputs (settings)"),
        (("--dims", "32"), "index was done with other inputs (settings)"),
    ],
)
def test_a_step_that_is_done_is_not_mixed_with_other_inputs(
    served: Supervised, turned: Turned, call: Call, changed: tuple[str, ...], message: str
) -> None:
    _, err = command(served.folder, *arguments("day", "one", *changed), code=1, by=call)
    assert message in " ".join(err.split())


def test_what_the_gate_refuses_is_measured_and_not_published(
    served: Supervised, turned: Turned, call: Call
) -> None:
    more = ("--direct", "--against", "one/student")
    report = quorum_json(served.folder, *arguments("wrong", "two", *more), code=1, by=call)
    assert report["version"] is None
    assert "agreement with the judgements falls by" in report["refused"]
    difference = report["evaluation"]["differences"]["student 32 - against 32"]["pearson"]
    assert difference["high"] < 0
    state = Store(served.spec.repository_path).state().retriever
    assert state is not None
    assert state.versions == (1,)
    forced = quorum_json(served.folder, *arguments("wrong", "two", *more, "--force", "a test"), by=call)
    assert (forced["version"], forced["refused"]) == (2, "")
    assert forced["seconds"]["judge"] == report["seconds"]["judge"]


def test_what_cannot_work_is_refused_before_anything_is_asked(
    served: Supervised, turned: Turned, call: Call
) -> None:
    other = json.loads(json.dumps(ASKED)) | {"values": ["0", "1"]}
    spec = served.spec.model_copy(
        update={"default": type(served.spec.default).model_validate(other) if served.spec.default else None}
    )
    for deployment, options, message in (
        (
            spec,
            quorum.FlywheelOptions(held_out=served.folder / "heldout.parquet"),
            "judged by another question",
        ),
        (served.spec, quorum.FlywheelOptions(), "no pairs are held out"),
    ):
        with pytest.raises(quorum.QuorumError, match=message):
            quorum.flywheel(
                deployment, served.folder / "day.jsonl", served.folder / "base",
                served.folder / "keyphrases.txt", served.folder / "three", options,
            )  # fmt: skip
    _, err = command(served.folder, *arguments("day", "base"), code=1, by=call)
    assert "and no turn; name another --out" in " ".join(err.split())
    assert not (served.folder / "three").exists()
