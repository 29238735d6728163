# SPDX-License-Identifier: Apache-2.0
"""The channels that recommend keyphrases, on a real tritonserver with a tiny encoder."""

from __future__ import annotations

import asyncio
import csv
import itertools
import json
import shutil
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace as changed
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace
from support.command import quorum, quorum_json
from support.deployment import Live, running, write_deployment
from support.gateway import KEY
from support.http_half import exchange, request_of
from support.raw import MALFORMED, bytes_tensor
from support.retrievers import WORDS, Encoder, publish_by_hand, version_folder, write_version
from support.wire import elements
from tritonclient.grpc import service_pb2 as pb

from quorum.deployment import load_deployment
from quorum.operations.describe import MisfitError, validate
from quorum.repository.render import difference
from quorum.retrieval.manifest import file_hashes, read_retriever, write_manifest
from quorum.server.control import ControlError
from quorum.server.gateway_process import open_gateway
from quorum.server.runfile import Running, leave_note, remove_note, start_of
from quorum_client import (
    AsyncClient,
    ChannelNotFound,
    Client,
    InvalidRequest,
    RecommendItem,
    ServerError,
    takes_canary,
)
from quorum_contract import RECOMMEND, RECOMMEND_CANARY, RETRIEVER

pytestmark = pytest.mark.skipif(not find_spec("onnx"), reason="needs onnx: run `make setup-tune`")

FIRST, SECOND = Encoder(1), Encoder(2)
KEYPHRASES: dict[str, list[str]] = {
    f"{first} {second}": [[], ["shoes"], ["bags", "shoes"]][number % 3]
    for number, (first, second) in enumerate((a, b) for a in WORDS for b in WORDS if a < b)
}
PAIRS = [*KEYPHRASES.items()]
BLOCKED = "lamp slim"
ITEM = "red leather shoe for women"


def best(encoder: Encoder, text: str, dims: int, limit: int, category: str = "") -> list[str]:
    """All in the order of the cosine; those of the category that are not blocked, one of each form."""
    scores = encoder.keyphrases([*KEYPHRASES], dims) @ encoder.items([text], dims)[0]
    found: dict[str, str] = {}
    for row in np.argsort(-scores, kind="stable").tolist():
        name, categories = PAIRS[row]
        if name != BLOCKED and (not category or not categories or category in categories):
            found.setdefault(name.replace("shoes", "shoe"), name)
    return [*found.values()][:limit]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Two versions: the stable one of 8 dimensions, the canary of another encoder and 4; a share of 0.25."""
    folder = tmp_path_factory.mktemp("recommend")
    (folder / "blocked.txt").write_text(" Lamp   slims!\n", "utf-8")
    section = {"max_in_flight": 64, "max_batch": 8, "blocklist": "blocked.txt"}
    path = write_deployment(folder, {"alpha": {}}, retriever=section)
    spec = load_deployment(path)
    write_version(version_folder(spec, 1), KEYPHRASES, FIRST)
    write_version(version_folder(spec, 4), KEYPHRASES, SECOND, dims=4)
    publish_by_hand(spec, [1, 4], 1, 4, 0.25)
    with running(path) as live:
        yield live


@pytest.fixture(scope="module")
def client(live: Live) -> Iterator[Client]:
    with Client(live.url, timeout_s=20) as client:
        yield client


def request(channel: str = RECOMMEND, **other: tuple[list[int], bytes] | None) -> Any:
    """A request of raw buffers: input -> shape and content, or None to leave it out."""
    contents: dict[str, tuple[list[int], bytes] | None] = {
        "TEXT": ([1], bytes_tensor([ITEM.encode()])),
        "CATEGORY": ([1], bytes_tensor([b""])),
        "LIMIT": ([1], struct.pack("<i", 5)),
        "MIN_SCORE": ([1], struct.pack("<f", -1)),
    }
    types = {"TEXT": "BYTES", "CATEGORY": "BYTES", "LIMIT": "INT32", "MIN_SCORE": "FP32"}
    message = pb.ModelInferRequest(model_name=channel)
    for name, content in (contents | other).items():
        if content is not None:
            message.inputs.add(name=name, datatype=types[name], shape=content[0])
            message.raw_input_contents.append(content[1])
    return message


def outputs(response: Any) -> dict[str, bytes]:
    names = [output.name for output in response.outputs]
    return dict(zip(names, response.raw_output_contents, strict=True))


def refused(live: Live, message: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as error:
        live.stub.ModelInfer(message, timeout=20)
    # Whatever it was, the next caller is answered.
    assert elements(outputs(live.stub.ModelInfer(request(), timeout=20))["KEYPHRASES"])
    return error.value


def test_a_raw_answer_has_the_tensors_of_the_contract(live: Live) -> None:
    found = outputs(live.stub.ModelInfer(request(), timeout=20))
    assert elements(found["KEYPHRASES"]) == best(FIRST, ITEM, 8, 5)
    scores = FIRST.keyphrases(elements(found["KEYPHRASES"])) @ FIRST.items([ITEM])[0]
    assert struct.unpack("<5f", found["KEYPHRASE_SCORES"]) == pytest.approx(scores.tolist(), abs=1e-5)
    assert struct.unpack("<q", found["RETRIEVER_VERSION"]) == (1,)
    assert struct.unpack("<d", found["CANARY_SHARE"]) == (0.25,)
    assert len(found) == 4


@pytest.mark.parametrize("category", ["", "shoes", "BAGS", "none such"])
def test_the_client_reads_the_answer_of_an_exact_search(client: Client, category: str) -> None:
    found = client.recommend(ITEM, 30, category)
    assert [keyphrase.text for keyphrase in found.keyphrases] == best(FIRST, ITEM, 8, 30, category.lower())
    assert (found.version, found.channel, found.fallback_from) == (1, RECOMMEND, None)


def test_the_canary_answers_by_its_own_encoder_and_dimensions(client: Client) -> None:
    found = client.recommend(ITEM, 30, channel=RECOMMEND_CANARY)
    assert [keyphrase.text for keyphrase in found.keyphrases] == best(SECOND, ITEM, 4, 30)
    assert found.version == 4


def test_few_or_none_are_left_by_a_high_least_score(client: Client) -> None:
    every = client.recommend(ITEM, 20)
    least = (every.keyphrases[2].score + every.keyphrases[3].score) / 2
    assert client.recommend(ITEM, 20, min_score=least).keyphrases == every.keyphrases[:3]
    assert client.recommend(ITEM, 20, min_score=1.0).keyphrases == ()


def test_blocked_keyphrases_are_not_recommended(client: Client) -> None:
    found = client.recommend(BLOCKED, 100)
    assert [keyphrase.text for keyphrase in found.keyphrases] == best(FIRST, BLOCKED, 8, 100)


@pytest.mark.parametrize(
    "text",
    ["é" * 15_000, "a" * 32_768, "\0\0 red \x1b[31m", "👟 \u202e red", "unheard of words", "red\nshoe"],
)
def test_any_item_in_utf8_is_answered(client: Client, text: str) -> None:
    assert len(client.recommend(text, 5).keyphrases) == 5


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "empty item": ({"TEXT": ([1], bytes_tensor([b"  \n"]))}, "TEXT: empty"),
    "item too long": ({"TEXT": ([1], bytes_tensor([b"a" * 32_769]))}, "the limit is 32768"),
    "category too long": ({"CATEGORY": ([1], bytes_tensor([b"a" * 257]))}, "the limit is 256"),
    "category not UTF-8": ({"CATEGORY": ([1], bytes_tensor([b"\xff"]))}, "CATEGORY: not UTF-8"),
    "limit 0": ({"LIMIT": ([1], struct.pack("<i", 0))}, "LIMIT: 0; ask for 1 to 100 keyphrases"),
    "limit below 0": ({"LIMIT": ([1], struct.pack("<i", -5))}, "LIMIT: -5"),
    "limit 10^9": ({"LIMIT": ([1], struct.pack("<i", 10**9))}, "LIMIT: 1000000000"),
    "score NaN": ({"MIN_SCORE": ([1], struct.pack("<f", float("nan")))}, "MIN_SCORE: nan"),
    "score infinite": ({"MIN_SCORE": ([1], struct.pack("<f", float("inf")))}, "MIN_SCORE: inf"),
    "score above 1": ({"MIN_SCORE": ([1], struct.pack("<f", 1.5))}, "MIN_SCORE: 1.5"),
}
BAD_TO_TRITON: dict[str, dict[str, Any]] = {
    "two limits": {"LIMIT": ([2], struct.pack("<ii", 5, 5))},
    "no limit": {"LIMIT": None},
    "limit of no element": {"LIMIT": ([0], b"")},
    "limit cut off": {"LIMIT": ([1], b"\x05\x00")},
    "two items": {"TEXT": ([2], bytes_tensor([b"a", b"b"]))},
    "a batch": {name: ([1, 1], content) for name, content in {"LIMIT": struct.pack("<i", 5)}.items()},
    "no item": {"TEXT": None},
}


@pytest.mark.parametrize("name", BAD)
def test_what_breaks_the_contract_is_refused_with_the_reason(live: Live, name: str) -> None:
    inputs, words = BAD[name]
    error = refused(live, request(**inputs))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in error.details()
    assert error.details().endswith("[quorum:INVALID_REQUEST]")


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_texts_are_refused(live: Live, name: str) -> None:
    assert refused(live, request(TEXT=([1], MALFORMED[name]))).code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("name", BAD_TO_TRITON)
def test_wrong_shapes_are_refused(live: Live, name: str) -> None:
    error = refused(live, request(**BAD_TO_TRITON[name]))
    assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"k": 0}, "LIMIT: 0"),
        ({"k": True}, "LIMIT: True"),
        ({"k": 101}, "LIMIT: 101"),
        ({"min_score": float("nan")}, "MIN_SCORE: nan"),
        ({"min_score": "0.5"}, "MIN_SCORE: '0.5'"),
        ({"text": " "}, "TEXT: empty"),
        ({"category": "x" * 257}, "CATEGORY: 257 bytes"),
        ({"priority": "later"}, "priority: 'later'"),
    ],
)
def test_the_client_refuses_the_same_before_it_sends(
    client: Client, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as error:
        client.recommend(**{"text": ITEM, **arguments})
    assert error.value.request_id is None


def test_many_callers_get_their_own_answers(client: Client) -> None:
    items = [
        RecommendItem(f"{a} {b}", k=1 + number % 9) for number, (a, b) in enumerate(itertools.pairwise(WORDS))
    ] * 12
    expected = [best(FIRST, item.text, 8, item.k) for item in items[: len(WORDS) - 1]] * 12
    with ThreadPoolExecutor(32) as callers:
        found = [*callers.map(lambda item: client.recommend(item.text, item.k), items)]
    assert [[keyphrase.text for keyphrase in each.keyphrases] for each in found] == expected


def test_many_items_are_answered_in_order_also_from_asyncio(live: Live, client: Client) -> None:
    items = [RecommendItem(text, k=3) for text in WORDS * 3]
    items[4] = RecommendItem("", k=3)
    found = [*client.recommend_many(items, concurrency=8, errors="return")]
    assert isinstance(found.pop(4), InvalidRequest)
    wanted = [best(FIRST, item.text, 8, 3) for item in items if item.text]
    assert [[k.text for k in each.keyphrases] for each in found if not isinstance(each, Exception)] == wanted

    async def ask() -> list[Any]:
        async with AsyncClient(live.url) as aio:
            one = await aio.recommend(ITEM, 3)
            return [one, *[each async for each in aio.recommend_many(items, errors="return")]]

    first, *others = asyncio.run(ask())
    assert [k.text for k in first.keyphrases] == best(FIRST, ITEM, 8, 3)
    assert [[k.text for k in each.keyphrases] for each in others if not isinstance(each, Exception)] == wanted


def test_the_share_that_the_answers_carry_routes_items(live: Live) -> None:
    with Client(live.url, canary_share="served") as routed:
        found = [routed.recommend(ITEM, 1, item_id=f"i{number}") for number in range(200)]
        again = [routed.recommend(ITEM, 1, item_id=f"i{number}").channel for number in range(200)]
    assert [each.channel for each in found] == again
    assert 25 <= again.count(RECOMMEND_CANARY) <= 75
    assert {(each.channel, each.version) for each in found} == {(RECOMMEND, 1), (RECOMMEND_CANARY, 4)}


def test_too_many_at_once_are_refused_and_bulk_waits(live: Live) -> None:
    # One caller's crowd of long items: 64 may be inside.
    crowd = [request(TEXT=([1], bytes_tensor([(b"red shoe " * 3600)]))) for _ in range(400)]
    calls = [live.stub.ModelInfer.future(message, timeout=60) for message in crowd]
    codes = [call.exception().details() if call.exception() else "" for call in calls]
    full = [code for code in codes if code]
    assert full
    assert len(full) < len(codes)
    assert all("64 items or more are being answered; retry later" in code for code in full)
    assert all(code.endswith("[quorum:OVERLOADED]") for code in full)
    with Client(live.url) as client:
        items = [RecommendItem("red shoe " * 3600, k=1)] * 120
        assert len([*client.recommend_many(items, concurrency=100)]) == 120


def test_a_request_whose_time_is_up_is_refused(live: Live) -> None:
    message = request(TEXT=([1], bytes_tensor([(b"red shoe " * 3600)])))
    message.parameters["timeout"].int64_param = 1
    error = refused(live, message)
    assert "time was up" in error.details()


def test_what_is_served_is_as_rendered_and_valid(live: Live) -> None:
    assert difference(live.spec).is_clean
    validate(live.spec)
    assert live.control.is_ready(RETRIEVER, "1")
    assert live.control.is_ready(RETRIEVER, "4")


def test_the_command_shows_keyphrases(live: Live) -> None:
    options = ("--url", live.url, "-k", "3")
    shown, remark = quorum(live.spec.root, "recommend", ITEM, *options)
    assert all(text in shown for text in best(FIRST, ITEM, 8, 3))
    assert "retriever version 1" in remark
    found = quorum_json(live.spec.root, "recommend", ITEM, *options, "--channel", RECOMMEND_CANARY)
    assert [k["keyphrase"] for k in found["keyphrases"]] == best(SECOND, ITEM, 4, 3)
    assert (found["version"], found["channel"]) == (4, RECOMMEND_CANARY)
    _, refused = quorum(live.spec.root, "recommend", ITEM, "--url", live.url, "-k", "0", code=2)
    assert "Invalid value for '-k': Input should be greater than or equal to 1" in refused
    _, refused = quorum(live.spec.root, "recommend", code=2)
    assert "give the text of an item, or --items" in refused


ROWS = [
    {"id": "a", "title": ITEM, "category": "shoes"},
    {"id": "b", "title": " ", "category": ""},
    {"id": "=c", "title": "blue bag", "category": ""},
]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_a_file_of_items_is_answered_in_its_order(live: Live, tmp_path: Path, ending: str) -> None:
    source, out = tmp_path / f"items.{ending}", tmp_path / "out.jsonl"
    if ending == "jsonl":
        source.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    elif ending == "csv":
        lines = [",".join(row.values()) for row in ROWS]
        source.write_text("\n".join(["id,title,category", *lines]), "utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), source)
    options = ("--url", live.url, "-k", "4", "--items", source)
    report = quorum_json(live.spec.root, "recommend", *options, "--out", out, code=1)
    counts = {"answered": 2, "empty": 0, "failed": 1, "left": 0, "keyphrases": 8, "ended": "complete"}
    assert counts.items() <= report.items()
    assert report["by_version"] == {"1": 2}
    assert report["errors"]["INVALID_REQUEST"]["items"] == 1
    lines = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [line["item"] for line in lines] == ["a", "b", "=c"]
    found = [[k["keyphrase"] for k in line.get("keyphrases", ())] for line in lines]
    assert found == [best(FIRST, ITEM, 8, 4, "shoes"), [], best(FIRST, "blue bag", 8, 4)]
    assert "TEXT: empty" in lines[1]["error"]
    if ending == "csv":
        table = tmp_path / "out.csv"
        quorum(live.spec.root, "recommend", *options, "--out", table, code=1)
        rows = [*csv.DictReader(table.read_text("utf-8").splitlines())]
        assert [(row["item"], row["rank"]) for row in rows] == [
            *[("a", f"{rank}") for rank in range(1, 5)],
            ("b", ""),
            *[("'=c", f"{rank}") for rank in range(1, 5)],
        ]
        assert "TEXT: empty" in rows[4]["error"]


def test_status_and_render_know_the_retriever(live: Live) -> None:
    assert quorum_json(live.spec.root, "render", "--check")["clean"]
    (live.spec.repository_path / RECOMMEND / "config.pbtxt").write_text("# by hand", "utf-8")
    report = quorum_json(live.spec.root, "render", "--check", code=1)
    assert report["write"] == [f"{RECOMMEND}/config.pbtxt"]
    quorum(live.spec.root, "render")


def test_status_shows_channels_and_versions(live: Live) -> None:
    assert live.server.pid is not None
    started = start_of(live.server.pid)
    leave_note(live.spec, Running(live.server.pid, started, live.server.repository, live.endpoint))
    try:
        found = quorum_json(live.spec.root, "status")["retriever"]
        shown, remarks = quorum(live.spec.root, "status")
    finally:
        remove_note(live.spec)
    assert {name: (c["answers"], c["pinned"], c["version"]) for name, c in found["channels"].items()} == {
        RECOMMEND: (True, 1, 1),
        RECOMMEND_CANARY: (True, 4, 4),
    }
    assert {v: (s["state"], s["keyphrases"], s["dims"]) for v, s in found["versions"].items()} == {
        "1": ("READY", len(KEYPHRASES), 8),
        "4": ("READY", len(KEYPHRASES), 4),
    }
    assert RECOMMEND_CANARY in shown
    assert "25 % of the items are routed to quorum_recommend_canary" in remarks


def test_a_gateway_lets_callers_ask_for_keyphrases(live: Live, tmp_path: Path) -> None:
    outside = live.url.replace("127.0.0.1", "127.0.0.3")
    over_http = live.url.replace("127.0.0.1", "127.0.0.4")
    endpoint = changed(live.endpoint, gateway=outside, gateway_http=over_http)
    with (
        open_gateway(live.spec, endpoint, KEY, tmp_path / "log", lambda _: None),
        Client(outside, key=KEY) as client,
    ):
        assert [k.text for k in client.recommend(ITEM, 5).keyphrases] == best(FIRST, ITEM, 8, 5)
        assert client.is_ready(RECOMMEND_CANARY)
        with pytest.raises(ChannelNotFound, match="not open to callers"):
            client.recommend(ITEM, 5, channel=RETRIEVER)
        body = json.dumps({"text": ITEM, "k": 5, "category": "bags", "id": "item-1"}).encode()
        port = int(over_http.rpartition(":")[2])
        for _ in range(2):
            raw = asyncio.run(
                exchange(port, request_of("POST", "/v1/recommend", body, key=KEY), host="127.0.0.4")
            )
            found = json.loads(raw.partition(b"\r\n\r\n")[2])
            encoder, dims = (SECOND, 4) if found["channel"] == RECOMMEND_CANARY else (FIRST, 8)
            assert [k["text"] for k in found["keyphrases"]] == best(encoder, ITEM, dims, 5, "bags")
            assert (found["id"], found["version"]) == ("item-1", 4 if dims == 4 else 1)
        # The first answer gave the share.
        assert (found["channel"] == RECOMMEND_CANARY) is takes_canary("item-1", 0.25)


def damage_hash(folder: Path) -> None:
    path = folder / "vectors.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def damage_dims(folder: Path) -> None:
    write_version(folder, KEYPHRASES, FIRST, dims=4)
    np.save(folder / "vectors.npy", FIRST.keyphrases([*KEYPHRASES], 8))
    found = read_retriever(folder)
    write_manifest(folder, replace(found, files={**found.files, **file_hashes(folder, ["vectors.npy"])}))


def damage_encoder(folder: Path) -> None:
    SECOND.write(folder)
    found = read_retriever(folder)
    files = file_hashes(folder, ["encoder.onnx", "tokenizer.json", "student.json"])
    write_manifest(folder, replace(found, files={**found.files, **files}))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "half copied": (lambda folder: (folder / "keyphrases.parquet").unlink(), "keyphrases.parquet is missing"),
    "another file": (damage_hash, "vectors.npy is not the file that was written with it"),
    "of another encoder": (damage_encoder, "the index is of the encoder"),
    "of other dimensions": (damage_dims, "vectors of 8 dimensions, retriever.json says"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_version_is_not_loaded_and_the_others_serve_on(
    live: Live, client: Client, name: str
) -> None:
    # Until a server has answered for attributes, a damaged version loads, and refuses.
    live.ask("a", ["color"])
    harm, words = DAMAGE[name]
    folder = version_folder(live.spec, 7)
    write_version(folder, KEYPHRASES, FIRST)
    harm(folder)
    publish_by_hand(live.spec, [1, 4, 7], 1, 4, 0.25)
    try:
        with pytest.raises(ControlError, match=words):
            live.control.load(RETRIEVER)
        assert not live.control.is_ready(RETRIEVER, "7")
        for channel, version in ((RECOMMEND, 1), (RECOMMEND_CANARY, 4)):
            assert client.recommend(ITEM, 1, channel=channel).version == version
        # What only the server finds is another matter than files that do not belong together.
        with nullcontext() if "dimensions" in name else pytest.raises(MisfitError, match=words):
            validate(live.spec)
    finally:
        publish_by_hand(live.spec, [1, 4], 1, 4, 0.25)
        live.control.load(RETRIEVER)
        shutil.rmtree(folder)


def test_a_new_share_is_reported_at_once(live: Live) -> None:
    publish_by_hand(live.spec, [1, 4], 1, 4, 0.5)
    try:
        found = outputs(live.stub.ModelInfer(request(), timeout=20))
        assert struct.unpack("<d", found["CANARY_SHARE"]) == (0.5,)
    finally:
        publish_by_hand(live.spec, [1, 4], 1, 4, 0.25)


def test_a_server_starts_with_a_damaged_version_and_stops_after_the_last_item(tmp_path: Path) -> None:
    path = write_deployment(tmp_path, {"alpha": {}}, retriever={"max_batch": 1})
    spec = load_deployment(path)
    write_version(version_folder(spec, 1), KEYPHRASES, FIRST)
    damage_hash(write_version(version_folder(spec, 2), KEYPHRASES, SECOND))
    publish_by_hand(spec, [1, 2], 1, 2)
    with running(path) as own, Client(own.url, retries=False) as client:
        assert own.ask("a", ["color"]).version == 1
        with pytest.raises(ServerError, match=r"version 2 of the retriever is damaged: .*vectors\.npy"):
            client.recommend(ITEM, 1, channel=RECOMMEND_CANARY)
        long = request(TEXT=([1], bytes_tensor([b"red shoe " * 3600])))
        calls = [own.stub.ModelInfer.future(long, timeout=60) for _ in range(250)]
        calls[0].result()
        own.server.stop()
        failed = [call.exception() for call in calls if call.exception()]
        # Those that came too late are told so; none is lost.
        assert all("the server is stopping" in error.details() for error in failed), failed[:1]
        assert len(failed) < len(calls)
