# SPDX-License-Identifier: Apache-2.0
"""Tuned encoders: what is written, that ONNX computes what PyTorch does, and what is refused before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny_encoder import write_encoder

from quorum.files import hash_file
from quorum.runtimes.encoder_folder import EncoderFile, read_encoder
from quorum.runtimes.encoder_input import EncoderInput
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tune.base import Base, BaseModelError, read_base
from quorum.tune.card import CardError, read_card
from quorum.tune.data import TrainingData, TrainingDataError, TrainingRow
from quorum.tune.encoder import EncoderOptions, tune_encoder
from quorum.tune.encoder_folder import predict
from quorum.tune.encoder_rows import head_of
from quorum.tune.loop import TrainingError
from quorum.tune.onnx_check import OnnxError, OnnxNetwork, check_onnx
from quorum.tune.tuned_on import question_hash, read_tuned_on

COLOURS, THINGS = ("red", "blue", "grey"), ("cap", "shirts", "mug", "belt")
BRANDS = tuple(f"{a}{b}co" for a in "abcdef" for b in "aeiou")
CATALOGUE = Catalogue.of(
    [
        Attribute("grade", kind="label", values=("exact", "not"), allow_na=False, fields=("query", "title")),
        Attribute("parts", kind="spans", values=("brand", "thing")),
        Attribute("colour", normaliser="text"),
        Attribute("sizes", many=True),
        Attribute("about", kind="text"),
    ]
)
QUICK = EncoderOptions(epochs=1, batch=16, learning_rate=0.01, max_tokens=32, bfloat16=False)
pytestmark = [pytest.mark.torch, pytest.mark.timeout(400)]


@pytest.fixture(scope="module", autouse=True)
def libraries() -> None:
    for name in ("torch", "transformers", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed here: run `make setup-hf`")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp("base")
    return read_base(write_encoder(folder, [*COLOURS, *THINGS, *BRANDS, "colour", "shirt"]))


def data_of(task: str, rows: int = 40) -> TrainingData:
    """Rows about made-up products."""
    found = []
    for number in range(rows):
        brand, colour = BRANDS[number % len(BRANDS)], COLOURS[number % 3]
        thing = THINGS[number // 3 % 4]
        text, answer = f"{brand} {colour} {thing}", colour
        if task == "grade":
            wanted = thing if number % 2 else THINGS[(number // 3 + 1) % 4]
            text, answer = f"query: {brand} {wanted}\ntitle: {text}", "exact" if number % 2 else "not"
        elif task == "parts":
            answer = json.dumps([[brand, "brand"], [thing, "thing"]], separators=(",", ":"))
        elif number % 5 == 0:
            text, answer = f"{brand} {thing}", "n/a"
        found.append(TrainingRow(number + 1, f"p{number}", text, "", task, (answer,)))
    return TrainingData(tuple(found), (task,), "gold", "sha256:0")


Tune = Callable[..., Path]


@pytest.fixture
def tuned(base: Base, tmp_path: Path) -> Iterator[Tune]:
    def run(task: str, options: EncoderOptions = QUICK, **more: Any) -> Path:
        out = tmp_path / "out"
        tune_encoder(base, data_of(task), tmp_path / "gold.jsonl", CATALOGUE, out, options, **more)
        return out

    yield run
    assert {path.name for path in tmp_path.iterdir()} <= {"out"}


def open_folder(out: Path) -> tuple[EncoderFile, EncoderInput]:
    from tokenizers import Tokenizer

    head = read_encoder(out)
    assert head.files == {name: hash_file(out / name) for name in ("model.onnx", "tokenizer.json")}
    stored = json.loads((out / "tokenizer.json").read_text("utf-8"))
    assert stored["truncation"] is None
    assert stored["padding"] is None
    inputs = EncoderInput(Tokenizer.from_file(str(out / "tokenizer.json")), head)
    return head, inputs


def answers(inputs: EncoderInput, network: Any, data: TrainingData) -> list[str]:
    rows = [inputs.encode(row.text, row.category, row.attribute) for row in data.rows]
    pairs = zip(rows, predict(network, inputs, rows), strict=True)
    return [inputs.decode(row, logits).value for row, logits in pairs]


class Stub:
    """What is written in place of ONNX where a test is not about it: exporting takes seconds."""

    network: Any = None

    def export(self, network: Any, path: Path) -> None:
        Stub.network = network
        path.write_bytes(b"onnx")

    def __call__(self, ids: Any, mask: Any) -> Any:
        import torch

        with torch.inference_mode():
            return Stub.network(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    stub = Stub()
    monkeypatch.setattr("quorum.tune.onnx_export.export", stub.export)
    monkeypatch.setattr("quorum.tune.encoder_folder.check_onnx", lambda path, outputs: None)
    for module in ("encoder", "encoder_folder"):
        monkeypatch.setattr(f"quorum.tune.{module}.OnnxNetwork", lambda path: stub)
    return stub


def test_an_encoder_of_labels(tuned: Tune, stub: Stub) -> None:
    out = tuned("grade", replace(QUICK, class_weights=True))
    assert sorted(path.name for path in out.iterdir()) == (
        ["card.json", "encoder.json", "model.onnx", "tokenizer.json", "tuned_on.txt"]
    )
    first = data_of("grade").rows[0]
    assert question_hash("grade", first.text.upper().replace(" ", "  ")) in read_tuned_on(out)
    assert len(read_tuned_on(out)) == len({row.text for row in data_of("grade").rows})
    head, inputs = open_folder(out)
    assert (head.head, head.attributes, head.labels) == ("label", ("grade",), ("exact", "not"))
    assert head.fields == ("query", "title")
    assert head.catalogue == {"grade": CATALOGUE.hashes["grade"]}
    assert set(answers(inputs, stub, data_of("grade"))) <= {"exact", "not"}
    card = read_card(out)
    assert (card.tasks, card.method, card.architecture, card.source) == (
        ("grade",),
        "full",
        "encoder",
        "gold",
    )
    assert card.rows + card.held_out_rows == 40
    assert card.tuned_on == "tuned_on.txt"
    assert set(card.scores["grade"]) == {"macro_f1", "accuracy", "micro_f1", "parse_share"}
    assert card.libraries["onnx"]
    assert card.data_hash == data_of("grade").data_hash


@pytest.mark.slow
def test_an_encoder_of_spans_in_int8(tuned: Tune) -> None:
    out = tuned("parts", replace(QUICK, int8=True, epochs=8))
    head, inputs = open_folder(out)
    network = OnnxNetwork(out / "model.onnx")
    assert head.labels == ("O", "B-brand", "I-brand", "B-thing", "I-thing")
    check_onnx(out / "model.onnx", {"logits": [None, None, 5]})
    data = data_of("parts")
    assert read_card(out).scores["parts"]["f1"] > 0.5
    assert any("int8; in float32 f1 was" in remark for remark in read_card(out).remarks)
    rows = [inputs.encode(row.text) for row in data.rows[:5]]
    alone = [network(*inputs.pad([row]))[0] for row in rows]
    batched = predict(network, inputs, rows)
    for one, other in zip(alone, batched, strict=True):
        # Inputs of int8 products are quantised by the whole batch.
        assert np.abs(one - other[: len(one)]).max() < 0.5


def test_an_encoder_of_values_by_lora(tuned: Tune, stub: Stub) -> None:
    pytest.importorskip("peft", reason="peft is not installed here: run `make setup-hf`")
    out = tuned("colour", replace(QUICK, method="lora", with_category=True))
    head, inputs = open_folder(out)
    assert (head.head, head.labels, head.with_category) == ("value", (), True)
    # What LoRA adds is part of the layers that are exported.
    assert not [name for name, _ in stub.network.named_parameters() if "lora" in name]
    data = data_of("colour")
    found = answers(inputs, stub, data)
    assert all(value == "n/a" or value in row.text for value, row in zip(found, data.rows, strict=True))
    assert read_card(out).method == "lora"


def test_an_interrupted_run_ends_like_one_that_was_not(base: Base, tmp_path: Path, stub: Stub) -> None:
    options = replace(QUICK, epochs=3, checkpoint_every=2)

    def train(out: Path, stop_at: int = 0) -> tuple[Any, Any]:
        def progress(step: Any) -> None:
            if step.done == stop_at:
                raise KeyboardInterrupt

        card = tune_encoder(base, data_of("grade"), tmp_path / "gold", CATALOGUE, out, options, progress)
        _, inputs = open_folder(out)
        logits = stub(*inputs.pad([inputs.encode("query: cap\ntitle: red cap")]))
        return (card.scores, card.steps, card.best_step), logits

    whole, expected = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", stop_at=5)
    assert [path.name for path in (tmp_path / "broken").iterdir()] == [".checkpoint"]
    again, logits = train(tmp_path / "broken")
    assert again == whole
    assert np.array_equal(logits, expected)
    assert not (tmp_path / "broken" / ".checkpoint").exists()


def test_a_checkpoint_is_of_one_order_of_labels(base: Base, tmp_path: Path, stub: Stub) -> None:
    options = replace(QUICK, epochs=2, checkpoint_every=1)

    def stop(step: Any) -> None:
        raise KeyboardInterrupt

    def train(attribute: Attribute) -> None:
        known = Catalogue.of([attribute])
        data = data_of(attribute.name)
        tune_encoder(base, data, tmp_path / "gold", known, tmp_path / attribute.name, options, stop)

    grade = CATALOGUE.get("grade")
    with pytest.raises(KeyboardInterrupt):
        train(grade)
    with pytest.raises(TrainingError, match="another base, data or settings"):
        train(replace(grade, values=grade.values[::-1]))
    with pytest.raises(KeyboardInterrupt):
        train(Attribute("colour"))
    with pytest.raises(TrainingError, match="another base, data or settings"):
        train(Attribute("colour", values=COLOURS, synonyms={"crimson": "red"}))


def test_a_model_that_differs_as_onnx_is_not_written(
    base: Base, tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    different = "quorum.tune.encoder_folder.OnnxNetwork"
    monkeypatch.setattr(different, lambda path: lambda *batch: stub(*batch) + 0.001)
    out = tmp_path / "out"
    with pytest.raises(OnnxError, match=r"differs from the trained one by 0\.001"):
        tune_encoder(base, data_of("grade"), tmp_path / "gold", CATALOGUE, out, QUICK)
    assert [path.name for path in out.iterdir()] == [".checkpoint"]


def refused(base: Base, tmp_path: Path, data: TrainingData) -> str:
    with pytest.raises(TrainingDataError) as error:
        tune_encoder(base, data, tmp_path / "gold.jsonl", CATALOGUE, tmp_path / "out", QUICK)
    assert list(tmp_path.iterdir()) == []
    return str(error.value)


def rows_of(task: str, *rows: tuple[str, str]) -> TrainingData:
    found = [TrainingRow(n, f"p{n}", text, "", task, (a,)) for n, (text, a) in enumerate(rows, 1)]
    return TrainingData(tuple(found), (task,), "gold", "sha256:0")


def test_spans_within_words_are_refused(base: Base, tmp_path: Path) -> None:
    good, bad = ("acme cap", '[["cap","thing"]]'), ("acme caps", '[["cap","thing"]]')
    message = refused(base, tmp_path, rows_of("parts", good, bad))
    assert "row 2: the span 'cap' begins or ends within a word" in message


def test_what_an_encoder_does_not_answer_is_refused(base: Base, tmp_path: Path) -> None:
    for task, why in (("about", "kind 'text'"), ("sizes", "many values")):
        assert f"{why}, which encoders do not answer" in refused(base, tmp_path, rows_of(task, ("a", "b")))
    data = rows_of("grade", ("a", "exact"))
    both = TrainingData(data.rows, ("grade", "colour"), "gold", "sha256:0")
    with pytest.raises(TrainingDataError, match="one encoder answers one attribute"):
        head_of(both, CATALOGUE, 32, with_category=False)


def test_values_that_are_in_no_text_are_refused(base: Base, tmp_path: Path) -> None:
    rows = [(f"thing {number}{number}", "purple") for number in range(5)]
    assert "no row can be learned" in refused(base, tmp_path, rows_of("colour", *rows))


def test_a_folder_with_other_files_is_not_replaced(base: Base, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"holds 'notes\.txt' already; name another --out"):
        tune_encoder(base, data_of("grade"), tmp_path / "gold", CATALOGUE, tmp_path, QUICK)
    assert (tmp_path / "notes.txt").read_text("utf-8") == "mine"
    (tmp_path / "card.json").write_text("{}", encoding="utf-8")
    with pytest.raises(TrainingError, match="replace it by --force"):
        tune_encoder(base, data_of("grade"), tmp_path / "gold", CATALOGUE, tmp_path, QUICK)


@pytest.mark.parametrize(
    ("opset", "name", "kind", "shape", "problem"),
    [
        (17, "input_ids", 7, ["b", "l"], "opset 17"),
        (18, "tokens", 7, ["b", "l"], "inputs tokens, attention_mask"),
        (18, "input_ids", 6, ["b", "l"], "input input_ids"),
        (18, "input_ids", 7, ["b", 8], "input input_ids"),
    ],
)
def test_onnx_that_the_runtime_does_not_take_is_refused(
    tmp_path: Path, opset: int, name: str, kind: int, shape: list[Any], problem: str
) -> None:
    from onnx import TensorProto, helper, save

    inputs = [
        helper.make_tensor_value_info(name, kind, shape),
        helper.make_tensor_value_info("attention_mask", 7, ["b", "l"]),
    ]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", "l"])
    node = helper.make_node("Cast", [name], ["logits"], to=TensorProto.FLOAT)
    graph = helper.make_graph([node], "graph", inputs, [logits])
    path = tmp_path / "model.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]), path)
    with pytest.raises(OnnxError) as error:
        check_onnx(path, {"logits": [None, 2]})
    assert problem in str(error.value)
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(OnnxError, match="is no valid ONNX"):
        check_onnx(tmp_path / "broken.onnx", {"logits": [None, 2]})


def test_what_a_base_folder_says(base: Base, tmp_path: Path) -> None:
    assert (base.architecture, base.model_type) == ("encoder", "bert")
    with pytest.raises(BaseModelError, match="needed is a causal LLM; name another --base"):
        read_base(base.folder, "causal")
    with pytest.raises(BaseModelError, match="name the folder of a base model by --base"):
        read_base(tmp_path)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "model.gguf").write_bytes(b"")
    with pytest.raises(BaseModelError, match=r"has no weights .* it is GGUF; convert it first"):
        read_base(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(BaseModelError, match=r"has no tokenizer\.json"):
        read_base(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")
    found = read_base(tmp_path)
    assert (found.architecture, found.licence) == ("causal", "apache-2.0")
    with pytest.raises(BaseModelError, match="needed is an encoder"):
        read_base(tmp_path, "encoder")
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BaseModelError, match="this is an adapter; name the base it was made from"):
        read_base(tmp_path)
    (tmp_path / "encoder.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BaseModelError, match="this is a tuned encoder; name the base it was made from"):
        read_base(tmp_path)


def test_a_damaged_file_of_a_base_is_named(base: Base, tmp_path: Path, stub: Stub) -> None:
    for name in ("model.safetensors", "tokenizer.json"):
        folder = Path(shutil.copytree(base.folder, tmp_path / name.partition(".")[0]))
        (folder / name).write_bytes((base.folder / name).read_bytes()[:50])
        # A folder of licences is no licence file.
        (folder / "LICENSES").mkdir()
        with pytest.raises(BaseModelError, match=r"cannot be loaded \(.*get the base model again"):
            tune_encoder(
                read_base(folder), data_of("grade"), tmp_path / "gold", CATALOGUE, tmp_path / "out", QUICK
            )


def test_a_card_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="name a folder that `quorum tune` wrote"):
        read_card(tmp_path)
    (tmp_path / "card.json").write_text('{"schema_version": 9}', encoding="utf-8")
    with pytest.raises(CardError, match="schema_version 9"):
        read_card(tmp_path)
    (tmp_path / "card.json").write_text('{"schema_version": 1, "color": 2}', encoding="utf-8")
    with pytest.raises(CardError, match="is no training card"):
        read_card(tmp_path)
