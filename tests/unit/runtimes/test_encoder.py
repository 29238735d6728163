# SPDX-License-Identifier: Apache-2.0
"""The runtime of encoders, on networks that answer by a table of words."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.encoders import network, write_encoder

import quorum
from quorum.runtimes import create
from quorum.runtimes.base import Question, Reply, RuntimeConfigError, RuntimeSettings
from quorum.runtimes.cancellation import Cancellation
from quorum.runtimes.encoder_batch import Batcher, Job
from quorum.runtimes.option_base import OptionError
from quorum.runtimes.options import EncoderOptions
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.parse import Vote
from quorum_contract import Status
from quorum_contract.fields import join_fields

CATALOGUE = Catalogue.of(
    [
        Attribute("shade", values=("red", "blue"), kind="label", allow_na=False),
        Attribute("entities", values=("color", "core"), kind="spans"),
        Attribute("brand"),
        Attribute("size", values=("s", "m")),
    ]
)
TAGS = ("O", "B-color", "I-color", "B-core", "I-core")
SHADES = {"red": [4.0, 0.0], "scarlet": [3.0, 0.0], "blue": [0.0, 4.0], "dark": [0.0, 0.0]}
ENTITIES = {"dark": [0, 9, 0, 0, 0], "red": [0, 0, 9, 0, 0], "case": [0, 0, 0, 9, 0], "for": [9, 0, 0, 0, 0]}
VALUES = {"[CLS]": [2.0, 2.0], "acme": [5.0, 0.0], "grip": [0.0, 5.0], "m": [9.0, 9.0], "xl": [9.0, 9.0]}
ENGINES = ("openvino", "onnxruntime")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx", reason="needs onnx: run `make setup-tune`")
    root = tmp_path_factory.mktemp("encoders")
    write_encoder(root / "label", "label", SHADES, CATALOGUE, ["shade"], ["red", "blue"])
    write_encoder(root / "spans", "spans", ENTITIES, CATALOGUE, ["entities"], TAGS)
    write_encoder(root / "value", "value", VALUES, CATALOGUE, ["brand", "size"])
    return root


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


def settings(
    root: Path, model: str, catalogue: Catalogue = CATALOGUE, **options: Any
) -> RuntimeSettings[EncoderOptions]:
    return RuntimeSettings("small", root, EncoderOptions(model=model, **options), catalogue=catalogue)


@pytest.fixture
def start(folders: Path) -> Iterator[Callable[..., Any]]:
    started: list[Any] = []

    def start(model: str, **options: Any) -> Any:
        started.append(create(settings(folders, model, **options)))
        return started[-1]

    yield start
    for runtime in started:
        runtime.close()


def question(text: str, *attributes: str, category: str = "", seconds: float = 60.0) -> Question:
    deadline = time.monotonic_ns() + int(seconds * 1e9)
    return Question("", "{}", text, category, attributes, deadline)


def ask(runtime: Any, *about: Any, **more: Any) -> Any:
    replies: list[Reply] = []
    answered = threading.Event()

    def done(reply: Reply) -> None:
        replies.append(reply)
        answered.set()

    asked = about[0] if isinstance(about[0], Question) else question(*about, **more)
    runtime.submit(asked, done)
    assert answered.wait(30)
    (reply,) = replies
    return reply


def close_to(value: float) -> Any:
    return pytest.approx(value, abs=1e-5)


def test_a_label_has_the_logarithm_of_its_softmax(start: Any, engine: str) -> None:
    (vote,) = ask(start("label", engine=engine), "a dark scarlet case", "shade")
    assert vote == Vote("red", Status.ANSWERED, close_to(3 - math.log(math.exp(3) + 1)))
    (unsure,) = ask(start("label", engine=engine), "???", "shade")
    assert unsure.score == close_to(math.log(0.5))


def test_spans_are_words_of_the_text_with_types(start: Any, engine: str) -> None:
    (vote,) = ask(start("spans", engine=engine), "  Dark  RED case for red", "entities")
    assert vote.value == '[["Dark RED","color"],["case","core"],["red","color"]]'
    assert vote.score == close_to(5 * (9 - math.log(math.exp(9) + 4)))


def test_a_value_is_cut_out_of_the_text_or_is_not_there(start: Any, engine: str) -> None:
    runtime = start("value", engine=engine)
    brand, size = ask(runtime, "drill by Acme power Grip here", "brand", "size")
    assert (brand.value, brand.status) == ("acme power grip", Status.ANSWERED)
    assert size == Vote("", Status.UNPARSABLE)
    assert ask(runtime, "a drill", "brand")[0].value == "n/a"
    assert ask(runtime, "shirt M", "size")[0].value == "m"
    assert -1 < brand.score < 0


def test_what_the_catalogue_does_not_allow_is_unparsable(start: Any) -> None:
    assert ask(start("value"), "shirt XL", "size") == [Vote("", Status.UNPARSABLE)]


def test_other_attributes_are_not_asked(start: Any) -> None:
    runtime = start("label")
    assert ask(runtime, "red", "brand", "unknown") == [Vote("", Status.NOT_ASKED)] * 2
    votes = ask(runtime, "red", "brand", "shade", "shade")
    assert [vote.status for vote in votes] == [Status.NOT_ASKED, Status.ANSWERED, Status.ANSWERED]


def test_scores_can_be_left_out(start: Any) -> None:
    assert ask(start("label", scores=False), "red", "shade") == [Vote("red", Status.ANSWERED)]


def test_bf16_and_int8_answer_alike(start: Any) -> None:
    pytest.importorskip("onnxruntime")
    for options in ({"precision": "bf16"}, {"engine": "onnxruntime", "precision": "int8"}):
        (vote,) = ask(start("label", **options), "a dark scarlet case", "shade")
        assert vote.value == "red"
        assert vote.score == pytest.approx(-0.0486, abs=0.01)


@pytest.mark.parametrize(
    "text",
    ["", "   ", "\n", "\u200b", "🙂 e\u0301 ﬁ ß \U0001f468\u200d\U0001f469", "\x00\x07", "red" * 9000,
     "red " * 9000, "[CLS] [SEP] [PAD]", "\u202ered"],
)  # fmt: skip
@pytest.mark.parametrize(
    ("model", "attribute"), [("label", "shade"), ("spans", "entities"), ("value", "brand")]
)
def test_any_text_gets_one_vote(start: Any, model: str, attribute: str, text: str) -> None:
    (vote,) = ask(start(model), text, attribute)
    assert vote.status in (Status.ANSWERED, Status.UNPARSABLE)
    assert vote.score is None or (math.isfinite(vote.score) and vote.score <= 0)


def test_offsets_are_of_characters(start: Any) -> None:
    (vote,) = ask(start("spans"), "😀😀 ß dark red ﬁ case", "entities")
    assert vote.value == '[["dark red","color"],["case","core"]]'
    (vote,) = ask(start("value"), "😀😀 ß Acme grip ﬁ", "brand")
    assert vote.value == "acme grip"


def test_what_lies_behind_the_longest_input_is_not_read(start: Any) -> None:
    text = "for " * 40 + "dark red case"
    assert ask(start("spans"), text, "entities")[0].value == "[]"
    assert ask(start("spans", max_tokens=8), "for for dark red case case case case", "entities")[0].value == (
        '[["dark red","color"],["case","core"],["case","core"]]'
    )


def test_a_thousand_questions_are_each_answered_once(start: Any) -> None:
    runtime = start("label", max_batch=7)
    expected = [("red", "blue")[n % 2] for n in range(1000)]
    replies: list[list[Any]] = [[] for _ in expected]
    left = threading.Semaphore(0)

    def caller(first: int) -> None:
        for n in range(first, 1000, 8):

            def done(reply: Reply, n: int = n) -> None:
                replies[n].append(reply)
                left.release()

            runtime.submit(question(f"{'dark ' * (n % 20)}{expected[n]}", "shade"), done)

    threads = [threading.Thread(target=caller, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for _ in expected:
        assert left.acquire(timeout=30)
    for thread in threads:
        thread.join()
    assert [len(found) for found in replies] == [1] * 1000
    assert [found[0][0].value for found in replies] == expected


def test_a_vote_does_not_depend_on_the_others_in_its_batch(start: Any) -> None:
    runtime = start("spans")
    alone = ask(runtime, "dark red case", "entities")
    found: list[Any] = []
    for n in range(20):
        runtime.submit(question("for " * n + "red", "entities"), lambda reply: None)
        runtime.submit(question("dark red case", "entities"), found.append)
    assert ask(runtime, "dark red case", "entities") == alone
    assert found == [alone] * 20


def test_expired_and_cancelled_questions_are_not_computed() -> None:
    seen: list[int] = []
    entered, go_on = threading.Event(), threading.Event()

    def compute(rows: Any) -> list[Vote]:
        seen.extend(rows)
        entered.set()
        assert go_on.wait(10)
        return [Vote("x", Status.ANSWERED)] * len(rows)

    batcher: Batcher[int] = Batcher("small", 4, compute, lambda row: row)
    replies: dict[int, Reply] = {}

    def submit(number: int, asked: Question) -> None:
        votes = [Vote("", Status.NOT_ASKED)]
        batcher.submit(Job(asked, lambda reply: replies.update({number: reply}), {0: number}, votes))

    submit(0, question("", "a"))
    assert entered.wait(10)
    late, cancelled = question("", "a", seconds=0), question("", "a")
    submit(1, late)
    submit(2, cancelled)
    submit(3, question("", "a"))
    cancelled.cancellation.cancel()
    go_on.set()
    end = time.monotonic() + 10
    while len(replies) < 4 and time.monotonic() < end:
        time.sleep(0.005)
    batcher.close()
    assert seen == [0, 3]
    assert replies[1] == replies[2] == Status.TIMEOUT
    assert replies[0] == replies[3] == [Vote("x", Status.ANSWERED)]


def test_a_row_that_cannot_be_computed_costs_its_own_vote() -> None:
    go_on = threading.Event()

    def compute(rows: Any) -> list[Vote]:
        assert go_on.wait(10)
        if 5 in rows:
            raise RuntimeError("a poisoned row")
        return [Vote(str(row), Status.ANSWERED) for row in rows]

    batcher: Batcher[int] = Batcher("small", 8, compute, lambda row: row)
    replies: dict[int, Any] = {}
    left = threading.Semaphore(0)
    for number in range(10):

        def done(reply: Reply, number: int = number) -> None:
            replies[number] = reply
            left.release()

        batcher.submit(Job(question("", "a"), done, {0: number}, [Vote("", Status.NOT_ASKED)]))
    go_on.set()
    for _ in range(10):
        assert left.acquire(timeout=10)
    batcher.close()
    assert replies.pop(5) == [Vote("", Status.ERROR)]
    assert {number: vote.value for number, (vote,) in replies.items()} == {n: str(n) for n in replies}


def test_a_tokenizer_with_more_words_than_the_network_is_refused(folders: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    said = broken(folders, tmp_path, model=network(np.zeros((3, 2), np.float32), pooled=True))
    with pytest.raises(RuntimeConfigError, match="fails for 32 tokens of number 7"):
        create(settings(said.root, "broken", engine="onnxruntime"))


def test_rows_of_similar_length_are_computed_together() -> None:
    batches: list[list[int]] = []
    entered, go_on = threading.Event(), threading.Event()

    def compute(rows: Any) -> list[Vote]:
        batches.append(list(rows))
        entered.set()
        assert go_on.wait(10)
        return [Vote(str(row), Status.ANSWERED) for row in rows]

    batcher: Batcher[int] = Batcher("small", 4, compute, lambda row: row)
    replies: dict[int, Reply] = {}
    left = threading.Semaphore(0)

    def submit(first: int, rows: list[int]) -> None:
        def done(reply: Reply) -> None:
            replies[first] = reply
            left.release()

        votes = [Vote("", Status.NOT_ASKED)] * len(rows)
        batcher.submit(Job(question("", *map(str, rows)), done, dict(enumerate(rows)), votes))

    submit(0, [0])
    assert entered.wait(10)
    asked = [[7, 1], [5], [3, 8], [2], [6, 4, 9]]
    for rows in asked:
        submit(rows[0], rows)
    go_on.set()
    for _ in range(1 + len(asked)):
        assert left.acquire(timeout=10)
    batcher.close()
    assert batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9]]
    for rows in asked:
        assert replies[rows[0]] == [Vote(str(row), Status.ANSWERED) for row in rows]


def test_a_failure_costs_its_batch_and_nothing_else(start: Any) -> None:
    runtime = start("label")
    compute = runtime._compute

    def fail(*_: Any) -> Any:
        raise RuntimeError("broken")

    runtime._compute = fail
    assert ask(runtime, "red", "brand", "shade") == [Vote("", Status.NOT_ASKED), Vote("", Status.ERROR)]
    runtime._compute = lambda ids, mask: np.full((len(ids), 2), np.nan, np.float32)
    assert ask(runtime, "red", "shade") == [Vote("", Status.ERROR)]
    runtime._compute = compute
    assert ask(runtime, "red", "shade")[0].value == "red"


def test_a_caller_that_raises_does_not_stop_the_thread(start: Any) -> None:
    runtime = start("label")

    def broken(reply: Reply) -> None:
        raise RuntimeError("broken")

    runtime.submit(question("red", "shade"), broken)
    assert ask(runtime, "red", "shade")[0].value == "red"


def test_close_ends_the_thread_and_drops_what_waits(folders: Path) -> None:
    runtime = create(settings(folders, "label"))
    runtime.close()
    replies: list[Reply] = []
    runtime.submit(question("red", "shade"), replies.append)
    assert not [t for t in threading.enumerate() if t.name == "quorum-encoder" and t.is_alive()]
    assert replies == []


def broken(folders: Path, tmp_path: Path, **files: Any) -> RuntimeSettings[EncoderOptions]:
    """A copy of the label encoder with other files: bytes, changes of JSON, or None for a missing one."""
    folder = tmp_path / "broken"
    folder.mkdir()
    for path in (folders / "label").iterdir():
        content = files.get(path.stem, path.read_bytes())
        if isinstance(content, dict):
            content = json.dumps(json.loads(path.read_text()) | content).encode()
        if content is not None:
            (folder / path.name).write_bytes(content)
    return settings(tmp_path, "broken")


PLAIN = np.zeros((8, 2), np.float32)
HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "no network": ({"model": None}, "has no model.onnx"),
    "no tokenizer": ({"tokenizer": None}, "has no tokenizer.json"),
    "no description": ({"encoder": None}, "has no encoder.json"),
    "garbage network": ({"model": b"\x00garbage" * 99}, "model.onnx cannot be read"),
    "empty network": ({"model": b""}, "model.onnx"),
    "garbage tokenizer": ({"tokenizer": b"{}"}, "tokenizer.json is no tokenizer"),
    "garbage description": ({"encoder": b"[1"}, "encoder.json cannot be read"),
    "newer description": ({"encoder": {"schema_version": 2}}, "encoder.json cannot be read"),
    "unknown head": ({"encoder": {"head": "other"}}, "encoder.json cannot be read"),
    "two attributes": ({"encoder": {"attributes": ["shade", "brand"]}}, "exactly one attribute"),
    "no attributes": ({"encoder": {"attributes": []}}, "exactly one attribute"),
    "no labels": ({"encoder": {"labels": []}}, "has no labels"),
    "equal labels": ({"encoder": {"labels": ["red", "red"]}}, "two labels are equal"),
    "foreign label": ({"encoder": {"labels": ["red", "pink"]}}, "'pink' is no value of 'shade'"),
    "too few labels": ({"encoder": {"labels": ["red"]}}, "has logits [1, 2], and encoder.json needs [1, 1]"),
    "short inputs": ({"encoder": {"max_tokens": 2}}, "max_tokens is 2"),
    "no inputs": (
        {"encoder": {"head": "value", "labels": [], "max_tokens": 0}}, "max_tokens is 0, and 8 to 8192"
    ),
    "endless inputs": ({"encoder": {"max_tokens": 1 << 40}}, "max_tokens is 1099511627776"),
    "another head": ({"encoder": {"head": "spans", "labels": ["O", "B-red"]}}, "float32 [?, ?, outputs]"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_folder_that_cannot_serve_says_why(folders: Path, tmp_path: Path, name: str) -> None:
    files, message = HOSTILE[name]
    with pytest.raises(RuntimeConfigError) as refused:
        create(broken(folders, tmp_path, **files))
    assert message in str(refused.value)
    assert "quorum tune" in str(refused.value)


def test_a_changed_catalogue_is_refused_with_both_hashes(folders: Path) -> None:
    changed = Catalogue.of([Attribute("shade", values=("red", "blue", "pink"), kind="label")])
    with pytest.raises(RuntimeConfigError) as refused:
        create(settings(folders, "label", changed))
    for part in (CATALOGUE.hashes["shade"], changed.hashes["shade"], "quorum tune"):
        assert part in str(refused.value)
    with pytest.raises(RuntimeConfigError, match="lists none of these"):
        create(settings(folders, "label", Catalogue.of([Attribute("brand")])))


def test_attributes_that_the_catalogue_lists_no_longer_are_left_out(folders: Path) -> None:
    runtime = create(settings(folders, "value", Catalogue.of([Attribute("brand")])))
    statuses = [vote.status for vote in ask(runtime, "Acme grip", "brand", "size")]
    runtime.close()
    assert statuses == [Status.ANSWERED, Status.NOT_ASKED]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("rename", "message"),
    [
        ("input_ids", "has inputs"),
        ("logits", "has outputs"),
        ("batch", "shape [3, ?], expected int64 [?, ?]"),
    ],
)
def test_a_network_with_other_tensors_is_refused(
    folders: Path, tmp_path: Path, engine: str, rename: str, message: str
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip(engine)
    model = onnx.load_from_string(network(PLAIN, pooled=True))
    graph = model.graph
    for tensor in (*graph.input, *graph.output):
        if rename == "batch":
            tensor.type.tensor_type.shape.dim[0].dim_value = 3
        elif tensor.name == rename:
            tensor.name = "other"
    for node in graph.node:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                if name == rename:
                    names[at] = "other"
    said = broken(folders, tmp_path, model=model.SerializeToString())
    with pytest.raises(RuntimeConfigError) as refused:
        create(settings(said.root, "broken", engine=engine))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"precision": "int8"}, "precision"),
        ({"engine": "onnxruntime", "precision": "bf16"}, "precision"),
        ({"engine": "tensorflow"}, "engine"),
        ({"max_batch": 0}, "max_batch"),
        ({"max_tokens": 7}, "max_tokens"),
        ({"triton": True, "precision": "int8"}, "precision"),
        ({"triton": True, "memory_limit_gib": 1.0}, "memory_limit_gib"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], key: str) -> None:
    with pytest.raises(OptionError) as refused:
        EncoderOptions(model="m", **options)
    assert refused.value.key == key


def test_longer_inputs_than_it_was_tuned_on_are_refused(folders: Path) -> None:
    with pytest.raises(RuntimeConfigError, match="tuned on 32 tokens"):
        create(settings(folders, "label", max_tokens=64))


def test_an_engine_that_is_not_installed_is_named(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(RuntimeConfigError, match="pip install onnxruntime"):
        create(settings(folders, "label", engine="onnxruntime"))


def test_a_pair_of_fields_is_read_as_the_tokenizer_pairs_them(folders: Path, tmp_path: Path) -> None:
    fields = ("query", "title")
    catalogue = Catalogue.of(
        [Attribute("shade", values=("red", "blue"), kind="label", allow_na=False, fields=fields)]
    )
    write_encoder(
        tmp_path / "pair", "label", SHADES, catalogue, ["shade"], ["red", "blue"], fields=list(fields)
    )
    runtime = create(settings(tmp_path, "pair", catalogue))
    text = join_fields({"query": "blue", "title": "dark blue case"})
    (vote,) = ask(runtime, text, "shade")
    runtime.close()
    assert vote == Vote("blue", Status.ANSWERED, close_to(8 - math.log(math.exp(8) + 1)))


def test_the_network_may_be_a_model_of_triton(folders: Path) -> None:
    asked: list[tuple[Any, ...]] = []
    own = create(settings(folders, "label"))

    def infer(model: str, inputs: Any, outputs: Any, number: str) -> dict[str, Any]:
        asked.append((model, sorted(inputs), tuple(outputs), number))
        return {"logits": own._compute(inputs["input_ids"], inputs["attention_mask"])}

    chosen = EncoderOptions(model="label", triton=True)
    assert not chosen.isolated
    with pytest.raises(RuntimeConfigError, match="inside Triton only"):
        create(RuntimeSettings("small", folders, chosen, catalogue=CATALOGUE))
    runtime = create(RuntimeSettings("small", folders, chosen, infer=infer, catalogue=CATALOGUE))
    (vote,) = ask(runtime, "red", "shade")
    runtime.close()
    own.close()
    assert vote.value == "red"
    assert asked == [("quorum_encoder_small", ["attention_mask", "input_ids"], ("logits",), "small-1")]


def test_cancelled_before_it_is_computed(start: Any) -> None:
    gone = Cancellation()
    gone.cancel()
    asked = Question("", "{}", "red", "", ("shade",), time.monotonic_ns() + 10**12, gone)
    assert ask(start("label"), asked) == Status.TIMEOUT


def test_validate_compares_the_folder_with_the_catalogue(folders: Path, tmp_path: Path) -> None:
    member = {"name": "small", "runtime": "encoder", "options": {"model": str(folders / "label")}}
    shade = {"kind": "label", "values": ["red", "blue"]}
    path = tmp_path / "deploy.yaml"
    path.write_text(json.dumps({"members": [member], "attributes": {"shade": shade}}))
    quorum.validate(quorum.load_deployment(path))
    shade["values"] = ["red", "blue", "green"]
    path.write_text(json.dumps({"members": [member], "attributes": {"shade": shade}}))
    with pytest.raises(quorum.QuorumError, match=r"members\[0\]\.options\.model: .*`quorum tune`"):
        quorum.validate(quorum.load_deployment(path))


def test_an_int8_file_is_read_with_a_warning(
    folders: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    quantised = pytest.importorskip("onnxruntime.quantization")
    from onnx import TensorProto, helper, numpy_helper

    ids, weights = "input_ids", np.eye(8, 2, dtype=np.float32)
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", ids], ["each"], axis=0),
            helper.make_node("MatMul", ["each", "weights"], ["words"]),
            helper.make_node("Cast", ["attention_mask"], ["kept"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["kept", "last"], ["mask"]),
            helper.make_node("Mul", ["words", "mask"], ["logits"]),
        ],
        "int8",
        [tensor(name, TensorProto.INT64, ["b", "l"]) for name in (ids, "attention_mask")],
        [tensor("logits", TensorProto.FLOAT, ["b", "l", 2])],
        [
            numpy_helper.from_array(np.ones((9, 8), np.float32), "table"),
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([2], np.int64), "last"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    plain, small = tmp_path / "plain.onnx", tmp_path / "small.onnx"
    plain.write_bytes(model.SerializeToString())
    quantised.quantize_dynamic(plain, small, op_types_to_quantize=["MatMul"])
    said = broken(folders, tmp_path, model=small.read_bytes(), encoder={"head": "value", "labels": []})
    (said.root / "broken" / "encoder.json").write_text(
        json.dumps(json.loads((folders / "value" / "encoder.json").read_text()) | {"attributes": ["brand"]})
    )
    create(settings(said.root, "broken")).close()
    assert "engine: onnxruntime" in caplog.text
