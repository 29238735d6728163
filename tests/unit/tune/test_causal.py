# SPDX-License-Identifier: Apache-2.0
"""Tune a tiny random LLM: it learns the prompts that serving asks, and the card says which."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.checkpoints import CHAT, write_checkpoint
from typer.testing import CliRunner

from quorum.runtimes import create
from quorum.runtimes.base import RuntimeConfigError
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import kind_of, read
from quorum.tasks.prompt import build_prompt
from quorum.tune.adapter_rules import MergeError
from quorum.tune.asking import Asked, AskingError, asked_of
from quorum.tune.base import BaseModelError, read_base
from quorum.tune.causal import CausalOptions, hf_settings, tune_causal
from quorum.tune.data import TrainingData, TrainingRow
from quorum.tune.loop import TrainingError
from quorum.tune.tuned_on import read_tuned_on

CATALOGUE = Catalogue.of(
    [
        Attribute("spans", values=("color", "type"), kind="spans"),
        Attribute("grade", values=("good", "bad"), kind="label", allow_na=False),
        Attribute("color"),
        Attribute("uses", many=True),
        Attribute("text", kind="text"),
    ]
)
pytestmark = pytest.mark.torch
OPTIONS = CausalOptions(epochs=1, batch=4, checkpoint_every=0, score_rows=2, device="cpu")
OPTIONS_WITH_CHECKPOINTS = replace(OPTIONS, checkpoint_every=3)


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """PyTorch takes seconds to import: not in every process that collects these tests."""
    global torch, transformers, ChatTokenizer, encode, balanced, loss_on
    torch = pytest.importorskip("torch", reason="PyTorch is not installed here: run `make setup-hf`")
    transformers = pytest.importorskip("transformers", reason="run `make setup-hf`")
    pytest.importorskip("peft", reason="run `make setup-hf`")
    from quorum.runtimes.chat import ChatTokenizer
    from quorum.tune.causal_model import loss_on
    from quorum.tune.causal_rows import balanced, encode


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("bases") / "tiny", chat=CHAT)


def row(number: int, attribute: str, answer: str, text: str = "") -> TrainingRow:
    return TrainingRow(number, f"p{number}", text or f"item {number}", "shoes", attribute, (answer,))


def data(rows: list[TrainingRow]) -> TrainingData:
    return TrainingData(tuple(rows), tuple(dict.fromkeys(r.attribute for r in rows)), "gold", "sha256:0")


def labels(count: int = 20) -> TrainingData:
    words = ("alpha", "beta", "gamma", "delta", "omega", "sigma")
    rows = []
    for number in range(count):
        text = f"{words[number % 6]} {number} {words[number * 5 % 6]} x{number * 7}"
        rows.append(row(number, "grade", "good" if number % 4 else "bad", text))
    return data(rows)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("spans", '[["red","color"],["shoe","type"]]'), ("spans", "[]"), ("grade", "bad"), ("color", "n/a"),
        ("uses", '["hiking","work"]'), ("uses", "n/a"), ("text", 'A "red" shoe.'),
    ],
)  # fmt: skip
def test_the_answer_to_learn_reads_as_the_gold(attribute: str, value: str) -> None:
    known = CATALOGUE.get(attribute)
    raw = json.loads(json.dumps(kind_of(known).raw(value)))
    assert read(known, raw, "red shoe") == value


@pytest.mark.parametrize("chat", [None, False])
def test_prompts_are_tokenised_as_serving_does(chat: bool | None, base: Path) -> None:
    tokenizer = ChatTokenizer(str(base), chat)
    asked = Asked((row(1, "color", "red", "red <|end|> shoe"), row(1, "grade", "good", "red <|end|> shoe")))
    example = encode(tokenizer, 0, CATALOGUE, "bare", asked)
    prompt = build_prompt(CATALOGUE, "bare", "red <|end|> shoe", "shoes", ("color", "grade"))
    assert example.prompt == tokenizer.encode(prompt)
    assert 0 not in example.prompt + example.answer[:-1]
    assert tokenizer.decode(example.answer) == '{"color":"red","grade":"good"}'
    assert example.answer[-1] == 0


def test_attributes_of_one_product_are_asked_together() -> None:
    rows = [row(1, "grade", "good"), row(2, "color", "red"), row(1, "color", "n/a")]
    # Cells of a votes table have a number each.
    rows.append(replace(row(2, "grade", "bad"), row=9))
    rows.append(replace(row(1, "color", "red"), row=10))
    found = asked_of(rows, ("color", "grade"))
    assert [one.attributes for one in found] == [("color", "grade"), ("color", "grade"), ("color",)]
    assert found[2].rows == (rows[-1],)


def test_labels_are_drawn_equally_often_and_other_rows_once() -> None:
    rows = [row(n, "grade", "good") for n in range(9)] + [row(9, "grade", "bad"), row(10, "color", "red")]
    weights = balanced(CATALOGUE, asked_of(rows, ()))
    assert weights == pytest.approx([5 / 9] * 9 + [5.0, 1.0])
    assert balanced(CATALOGUE, asked_of(rows[-1:], ())) == ()
    from quorum.tune.loop import _draw_weighted

    drawn = Counter(_draw_weighted(range(11), weights, random.Random(3)))
    assert (drawn[9], drawn[10], drawn.total()) == (5, 1, 11)


def test_the_loss_is_of_the_answers_alone(base: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    asked = asked_of([row(1, "grade", "bad", "a"), row(2, "color", "deep blue", "longer " * 5)], ())
    examples = [encode(ChatTokenizer(str(base)), 0, CATALOGUE, "bare", one) for one in asked]
    total = count = 0.0
    for prompt, answer in examples:
        logits = model(torch.tensor([[*prompt, *answer]])).logits[0].detach()
        scores = logits[len(prompt) - 1 : -1].log_softmax(-1)
        total -= float(sum(scores[place, token] for place, token in enumerate(answer)))
        count += len(answer)
    together = float(loss_on(model, examples, padding=0)([0, 1]).detach())
    assert together == pytest.approx(total / count, rel=1e-4)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_tuned_llm_is_served_with_the_prompts_of_its_card(method: Any, base: Path, tmp_path: Path) -> None:
    options = replace(OPTIONS, method=method, learning_rate=0.01, epochs=6)
    card = tune_causal(read_base(base), labels(), Path("gold.jsonl"), CATALOGUE, tmp_path / "out", options)
    written = json.loads((tmp_path / "out" / "card.json").read_text())
    assert written["prompts"]["style"] == "bare"
    assert written["prompts"]["chat"] is True
    assert [one["attributes"] for one in written["prompts"]["asked"]] == [["grade"]]
    assert written["scores"]["grade"]["guided_parse_share"] == 1.0
    assert (card.rows, card.held_out_rows, card.data) == (18, 2, "gold.jsonl")
    # A model that guesses has 1 / 264.
    assert card.settings["held_out_token_probability"] > 0.02
    assert written["tuned_on"] == "tuned_on.txt"
    assert read_tuned_on(tmp_path / "out") == labels().question_hashes
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    assert not (tmp_path / "out" / ".checkpoint").exists()
    served = hf_settings(base, tmp_path / "out", CATALOGUE, options, max_new_tokens=4)
    with pytest.raises(RuntimeConfigError, match="another prompt for grade"):
        create(replace(served, style="instruct"))


def test_an_interrupted_run_goes_on_to_the_same_weights(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quorum.tune.causal.score", lambda *_: [])
    found = read_base(base)
    options = replace(OPTIONS, epochs=2, checkpoint_every=2)

    def killed(step: Any) -> None:
        if step.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune_causal(found, labels(), Path("d"), CATALOGUE, tmp_path / "a", options, killed)
    assert [path.name for path in (tmp_path / "a").iterdir()] == [".checkpoint"]
    other = replace(options, seed=1)
    with pytest.raises(TrainingError, match="another base, data or settings"):
        tune_causal(found, labels(), Path("d"), CATALOGUE, tmp_path / "a", other)
    steps: list[int] = []
    tune_causal(
        found, labels(), Path("d"), CATALOGUE, tmp_path / "a", options, lambda step: steps.append(step.done)
    )
    assert steps[0] == 6
    tune_causal(found, labels(), Path("d"), CATALOGUE, tmp_path / "b", options)
    one, other_run = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("a", "b"))
    assert one == other_run


def test_a_score_that_fails_does_not_cost_the_training(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise AskingError("no answer")

    given = (read_base(base), labels(), Path("d"), CATALOGUE, tmp_path / "a", OPTIONS_WITH_CHECKPOINTS)
    with monkeypatch.context() as patched:
        patched.setattr("quorum.tune.causal.score", fails)
        with pytest.raises(AskingError):
            tune_causal(*given)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    steps: list[Any] = []
    card = tune_causal(*given, steps.append)
    assert steps == []
    assert card.scores["grade"]["guided_parse_share"] == 1.0


@pytest.mark.parametrize("family", ["gpt_neox", "phi3"])
def test_a_base_without_the_modules_of_an_adapter_is_refused(family: str, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "base", family)
    with pytest.raises(BaseModelError, match=r"has no .*gate_proj.* --method full"):
        tune_causal(read_base(other), labels(), Path("d"), CATALOGUE, tmp_path / "out", OPTIONS)


@pytest.mark.parametrize("able", [True, False])
def test_the_base_of_an_adapter_is_in_bfloat16_where_there_are_units_for_it(
    able: bool, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quorum.tune import causal_model

    monkeypatch.setattr(causal_model, "has_bfloat16", lambda device: able)
    model = causal_model.load_model(read_base(base), OPTIONS)
    dtypes = {p.dtype for p in model.parameters() if not p.requires_grad}
    assert dtypes == {torch.bfloat16 if able else torch.float32}


def test_a_rank_that_tensorrt_llm_cannot_serve_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(MergeError, match=r"--rank: rank 12 cannot be served.*8, 16"):
        tune_causal(
            read_base(base), labels(), Path("d"), CATALOGUE, tmp_path / "out", replace(OPTIONS, rank=12)
        )


def test_the_command_names_the_member_to_add(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quorum.cli import app

    monkeypatch.chdir(tmp_path)
    rows = [
        {"text": one.text, "gold": {"grade": [one.answers[0]], "color": ["n/a"]}} for one in labels().rows
    ]
    (tmp_path / "gold.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    given = ["tune", "grade", "gold.jsonl", "--base", str(base), "--out", "out", "--epochs", "1"]
    done = CliRunner().invoke(app, [*given, "--mix", "color", "--no-chat"])
    assert done.exit_code == 0, done.output
    shown = " ".join(done.output.split())
    assert "runtime: hf" in shown
    assert "lora: out" in shown
    assert "prompt: bare" in shown
    prompts = json.loads((tmp_path / "out" / "card.json").read_text())["prompts"]
    assert prompts["chat"] is False
    assert prompts["asked"][0]["attributes"] == ["grade", "color"]
