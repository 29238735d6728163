# SPDX-License-Identifier: Apache-2.0
"""Distilling on a tiny base: the folder, that it serves what was trained, interruptions, bad input."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support.tiny_encoder import write_encoder

from quorum.decision.catalogue_change import OUTSIDE
from quorum.distill.lessons import DistillSources
from quorum.distill.options import DistillOptions
from quorum.distill.run import DistillReport, distill_student
from quorum.evaluation.relevance import OverQueries
from quorum.files import hash_file
from quorum.operations.evaluate_retrieval import RetrievalOptions, evaluate_retrieval
from quorum.retrieval.encode import TextEncoder
from quorum.retrieval.judged import JudgedError, JudgedPair
from quorum.retrieval.judged_files import write_judged
from quorum.retrieval.manifest import check_student, read_student
from quorum.runtimes.base import RuntimeConfigError, RuntimeSettings
from quorum.runtimes.encoder_folder import open_folder
from quorum.runtimes.options import EncoderOptions
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.default import Default
from quorum.tune.base import BaseModelError
from quorum.tune.card import read_card
from quorum.tune.loop import Step, TrainingError
from quorum.tune.tuned_on import question_hash, read_tuned_on

ASKED = Default("Is {name} it?", ("no", "maybe", "yes"), {"yep": "yes"})
COLOURS, THINGS = ("red", "blue", "grey", "pink", "gold"), ("cap", "mug", "belt", "sock", "lamp")
QUICK = DistillOptions(
    dims=(384, 16, 8), weights={"judge": 1.0, "clicks": 0.3, "relevance": 0.3}, epochs=2, assistant_epochs=1,
    pool=40, batch=32, max_tokens=16, share=0.3,
)  # fmt: skip
pytestmark = [pytest.mark.torch, pytest.mark.timeout(400)]


@pytest.fixture(scope="module", autouse=True)
def libraries() -> None:
    for name in ("torch", "transformers", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed here: run `make setup-hf`")


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    """How wide intervals are is another test's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quorum.distill.figures.OverQueries", partial(OverQueries, resamples=200))
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("base"), [*COLOURS, *THINGS])


def pairs(label: Callable[[str, str], float] | None = None) -> list[JudgedPair]:
    """All coloured things as items, each with a few of them as keyphrases: relevant where both agree."""
    names = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
    rng, found = random.Random(0), []
    for number, name in enumerate(names):
        for keyphrase in {name, *rng.sample(names, 5)}:
            shared = len({*name.split()} & {*keyphrase.split()}) / 2
            found.append(
                JudgedPair(
                    item=f"p{number}",
                    text=name,
                    keyphrase=keyphrase,
                    label=label(name, keyphrase) if label else shared,
                    value="yes" if shared > 0.5 else "no",
                    confidence=0.8,
                    clicks=1 if shared else 0,
                    impressions=2,
                    position=1,
                    relevance=shared,
                )
            )
    return sorted(found, key=lambda pair: (pair.item, pair.keyphrase))


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "judged.jsonl"
    write_judged(path, pairs(), {"question": ASKED.to_json() | {"hash": "sha256:0"}, "weights": 3})
    return path


@pytest.fixture(scope="module")
def keyphrases(judged: Path) -> Path:
    path = judged.with_name("keyphrases.txt")
    path.write_text("\n".join(f"{a} {b}" for a in THINGS for b in COLOURS) + "\nlamp\n", encoding="utf-8")
    return path


Made = tuple[Path, DistillReport, list[tuple[Step, str]]]


@pytest.fixture(scope="module")
def made(base: Path, judged: Path, keyphrases: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One whole run, with both exports."""
    out, steps = tmp_path_factory.mktemp("made") / "student", list[tuple[Step, str]]()
    report = distill_student(
        judged, base, out, QUICK, DistillSources(keyphrases=keyphrases),
        progress=lambda step, stage: steps.append((step, stage)),
    )  # fmt: skip
    return out, report, steps


def test_the_student_is_whole_and_says_what_it_was_made_of(
    made: Made, judged: Path, keyphrases: Path
) -> None:
    out, report, steps = made
    assert sorted(path.name for path in out.iterdir()) == (
        ["cross-encoder", "encoder.onnx", "student.json", "tokenizer.json"]
    )
    student = check_student(out)
    assert student == report.student
    # The base has 32 dimensions: 384 are not to be had.
    assert student.dims == (32, 16, 8)
    assert student.data["judged"] == {"file": "judged.jsonl", "hash": hash_file(judged)}
    assert student.data["keyphrases"]["hash"] == hash_file(keyphrases)
    assert student.data["judge"]["weights"] == 3
    learned = student.data["pairs"]
    assert learned["judge"] > learned["judged"] > 0
    assert {"clicks", "relevance", "held_out"} <= learned.keys()
    assert student.settings["loss"] == "pearson"
    assert {stage for _, stage in steps} == {"cross-encoder", "student"}
    stored = json.loads((out / "tokenizer.json").read_text("utf-8"))
    assert (stored["truncation"], stored["padding"]) == (None, None)
    json.dumps(report.to_json())


def test_figures_are_of_held_out_keyphrases_with_intervals(made: Made) -> None:
    figures = made[1].student.figures
    assert figures["queries"] == 8
    for part in ("student", "zero_shot", "over_zero_shot"):
        assert list(figures[part]) == ["32", "16", "8"]
    for row in (*figures["student"].values(), *figures["zero_shot"].values()):
        assert row.keys() == {"pearson", "spearman", "auc", "recall"}
        assert row["auc"]["low"] <= row["auc"]["value"] <= row["auc"]["high"]
    gain = figures["student"]["32"]["pearson"]["value"] - figures["zero_shot"]["32"]["pearson"]["value"]
    assert figures["over_zero_shot"]["32"]["pearson"]["value"] == pytest.approx(gain, abs=2e-4)
    assert abs(figures["int8_less_float32"]["auc"]["value"]) < 0.2
    assert figures["cross-encoder"].keys() == {"pearson", "spearman", "auc"}
    assert any("1 / p ** 1" in remark for remark in made[1].student.remarks)


@pytest.mark.slow
def test_a_base_is_measured_as_it_is(made: Made, base: Path, judged: Path) -> None:
    """By ``quorum evaluate-retrieval``: here PyTorch is loaded already."""
    options = RetrievalOptions(engine="onnxruntime", threads=1, k=3, base=base)
    found = evaluate_retrieval(judged, made[0], options)
    assert "zero-shot 16" in found.figures
    assert found.differences["student 32 - zero-shot 32"]["pearson"].excludes_zero


def test_the_served_encoder_has_the_vectors_of_both_kinds(made: Made) -> None:
    texts = ["red cap", "a  grey\nlamp", "pink " * 40]
    vectors = [
        (encoder.items(texts), encoder.keyphrases(texts))
        for encoder in (TextEncoder(made[0], "openvino"), TextEncoder(made[0], "onnxruntime"))
    ]
    assert vectors[0][0].shape == (3, 32)
    for ours, theirs in zip(*vectors, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    # Items and keyphrases share one matrix.
    np.testing.assert_allclose(vectors[0][0], vectors[0][1], atol=1e-6)


def test_the_cross_encoder_can_be_a_member(made: Made) -> None:
    folder = made[0] / "cross-encoder"
    lines = yaml.safe_load(made[1].member)
    asked, options = Default.from_json(lines["default"]), EncoderOptions(model="cross-encoder")
    assert asked == ASKED
    catalogue = Catalogue.of([Attribute("brand")], default=asked)
    found, names = open_folder(RuntimeSettings("encoder", made[0], options, catalogue=catalogue))
    assert names == {OUTSIDE}
    assert found.files.keys() == {"model.onnx", "tokenizer.json"}
    assert (found.head, found.attributes, found.labels) == ("label", (OUTSIDE,), ("no", "yes"))
    other = Catalogue.of([], default=replace(asked, values=("no", "yes")))
    for changed, said in ((other, "judge and distil again"), (Catalogue.of([]), "deploy.yaml has none")):
        with pytest.raises(RuntimeConfigError, match=said):
            open_folder(RuntimeSettings("encoder", made[0], options, catalogue=changed))
    card = read_card(folder)
    assert card.held_out_rows == made[1].student.data["pairs"]["held_out"]
    # Learned, held out, or a random pair that is learned as irrelevant.
    tuned_on = read_tuned_on(folder)
    cells = {question_hash(pair.keyphrase, pair.text) for pair in pairs()}
    assert cells < tuned_on
    assert len(tuned_on) <= len(pairs()) * 4 / 3
    assert card.tuned_on == "tuned_on.txt"
    (member,) = lines["members"]
    assert (member["runtime"], member["options"]["model"]) == ("encoder", str(folder))


def test_an_interrupted_run_ends_like_one_that_was_not(
    made: Made, base: Path, judged: Path, keyphrases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Exporting takes seconds, and is another test's.
    monkeypatch.setattr("quorum.distill.run.write_student", lambda student, texts, folder: leave(folder))
    monkeypatch.setattr("quorum.distill.run.write_assistant", lambda *_: None)
    monkeypatch.setattr(
        "quorum.distill.run.int8_vectors",
        lambda folder, held: (np.eye(len(held.items), 32), np.eye(len(held.keyphrases), 32)),
    )
    stops = {("cross-encoder", 2), ("student", 3)}
    seen: list[tuple[str, int]] = []

    def stop(step: Step, stage: str) -> None:
        seen.append((stage, step.done))
        if (stage, step.done) in stops:
            stops.remove((stage, step.done))
            raise KeyboardInterrupt

    sources = DistillSources(keyphrases=keyphrases)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            distill_student(judged, base, tmp_path / "out", QUICK, sources, progress=stop)
        assert [path.name for path in (tmp_path / "out").iterdir()] == [".checkpoint"]
    with pytest.raises(TrainingError, match="another base, data or settings"):
        distill_student(judged, base, tmp_path / "out", replace(QUICK, loss="mse"), sources)
    distill_student(judged, base, tmp_path / "out", QUICK, sources, progress=stop)
    assert seen.count(("cross-encoder", 1)) == 1
    assert seen.count(("student", 1)) == 1
    again, first = (read_student(folder) for folder in (tmp_path / "out", made[0]))
    assert again.figures["student"] == first.figures["student"]
    with pytest.raises(TrainingError, match=r"holds 'encoder.onnx' already; replace it by --force"):
        distill_student(judged, base, tmp_path / "out", QUICK, sources)


def leave(folder: Path) -> None:
    for name in ("encoder.onnx", "tokenizer.json"):
        (folder / name).write_bytes(b"written elsewhere")


def refused(path: Path, base: Path, tmp_path: Path, kind: type[Exception] = JudgedError, **more: Any) -> str:
    with pytest.raises(kind) as error:
        distill_student(path, base, tmp_path / "out", QUICK, **more)
    assert not (tmp_path / "out").exists()
    return str(error.value)


def test_what_cannot_be_learned_is_refused_before_training(base: Path, judged: Path, tmp_path: Path) -> None:
    same = tmp_path / "same.jsonl"
    write_judged(same, pairs(lambda item, keyphrase: 0.5), {})
    assert "labels to train on are 0.5, so that nothing can be learned" in refused(same, base, tmp_path)
    few = tmp_path / "few.jsonl"
    write_judged(few, [pair for pair in pairs() if pair.keyphrase < "blue m"], {})
    assert "different keyphrases" in refused(few, base, tmp_path)
    lines = judged.read_text("utf-8").splitlines()
    newer = tmp_path / "newer.jsonl"
    newer.write_text(lines[0].replace('"schema_version": 1', '"schema_version": 9'), encoding="utf-8")
    assert "schema version 9, this release reads 1" in refused(newer, base, tmp_path)
    broken = tmp_path / "broken.jsonl"
    broken.write_text("\n".join([*lines[:3], lines[3].replace("0.8", "8")]), encoding="utf-8")
    assert "line 4: confidence is 8" in refused(broken, base, tmp_path)
    assert "stand twice" not in refused(judged, base, tmp_path, held_out=judged)
    other = tmp_path / "other.jsonl"
    write_judged(other, pairs()[:9], {"question": ASKED.to_json() | {"hash": "sha256:1"}})
    assert "other.jsonl: judged by another question" in refused(judged, base, tmp_path, held_out=other)


def test_a_base_of_another_architecture_is_refused(judged: Path, tmp_path: Path) -> None:
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    message = refused(judged, tmp_path, tmp_path, BaseModelError)
    assert "holds 'llama', needed is an encoder such as BERT" in message
