# SPDX-License-Identifier: Apache-2.0
"""Adapters of the ``hf`` runtime on one base: each row of a batch gets the answer of its merged model."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.checkpoints import write_adapter, write_checkpoint
from support.hf_members import WAIT_S, ask_each, assert_alike

from quorum.runtimes import create
from quorum.runtimes.base import Generated, Question, Reply, RuntimeConfigError, RuntimeSettings
from quorum.runtimes.option_base import OptionError
from quorum.runtimes.options import HfOptions
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import answer_schema
from quorum_contract import Status

pytestmark = pytest.mark.torch

CATALOGUE = Catalogue.of([Attribute("brand"), Attribute("color", values=("red", "navy blue", "rosé"))])
NAMES = tuple(CATALOGUE.attributes)
SCHEMA = json.dumps(answer_schema(CATALOGUE, NAMES), ensure_ascii=False)
TEXTS = ("shoe", "red shoes for men, size 42", "größe № 👟", "a" * 90)
Start = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch", reason="PyTorch is not installed here: run `make setup-hf`")
    pytest.importorskip("peft", reason="run `make setup-hf`")
    folder = tmp_path_factory.mktemp("adapted")
    write_checkpoint(folder / "base")
    for seed, name in enumerate(("red.one", "second")):
        write_adapter(folder / name, folder / "base", seed=seed)
    return folder


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    running: list[Any] = []

    def open_members(*members: dict[str, Any]) -> list[Any]:
        """Members of one process, that share the base."""
        options = [HfOptions(**{"model": "base", "device": "cpu", "max_new_tokens": 24} | m) for m in members]
        opened = []
        for number, own in enumerate(options):
            peers = tuple(other for other in options if other is not own)
            opened.append(create(RuntimeSettings(f"m{number}", folder, own, peers)))
            running.append(opened[-1])
        return opened

    yield open_members
    for runtime in running:
        runtime.close()


def question(text: str, adapter: str | None = None) -> Question:
    deadline = time.monotonic_ns() + int(WAIT_S * 1e9)
    return Question(text, SCHEMA, text, "", NAMES, deadline, adapter=adapter)


ADAPTERS = (None, "red.one", "second")


@pytest.fixture
def merged(start: Start) -> dict[str | None, list[Reply]]:
    """Adapter -> the answers to TEXTS of a member of its own, whose weights it is merged into."""
    found = {}
    for adapter in ADAPTERS:
        (alone,) = start({"lora": adapter})
        assert not alone._host.loaded.adapters
        found[adapter] = ask_each([(alone, question(text, adapter)) for text in TEXTS])
    assert len({reply.text for replies in found.values() for reply in replies}) > len(TEXTS)
    return found


def test_members_with_different_adapters_share_a_base_and_answer_as_if_alone(start, merged) -> None:
    members = start(*({"lora": adapter} for adapter in ADAPTERS))
    assert len({id(member._host) for member in members}) == 1
    asked = [(m, question(text, a)) for text in TEXTS for m, a in zip(members, ADAPTERS, strict=True)]
    assert_alike(ask_each(asked), [merged[a][i] for i in range(len(TEXTS)) for a in ADAPTERS])


def test_adapters_of_attributes_answer_as_if_alone(start, merged) -> None:
    (member,) = start({"lora": "second", "adapters": {"color": "red.one"}})
    asked = [(member, question(text, a)) for text in TEXTS for a in ("second", "red.one")]
    assert_alike(ask_each(asked), [merged[a][i] for i in range(len(TEXTS)) for a in ("second", "red.one")])


@pytest.mark.parametrize("batching", ["dynamic", "continuous"])
def test_members_with_the_same_adapter_share_merged_weights(start, merged, batching) -> None:
    one, other = start(
        {"lora": "second", "batching": batching, "max_new_tokens": 3},
        {"lora": "second", "batching": batching, "guided": False, "scores": False},
    )
    assert one._host is other._host
    assert not one._host.loaded.adapters
    short, free = ask_each([(one, question("shoe", "second")), (other, question("shoe", "second"))])
    assert short.text == merged["second"][0].text[: len(short.text)]
    assert short.log_probs == pytest.approx(merged["second"][0].log_probs[:3], abs=1e-3)
    assert free.text != merged["second"][0].text
    assert not free.log_probs


def test_members_may_differ_in_what_is_theirs(start, merged) -> None:
    short, plain, free = start(
        {"lora": "second", "max_new_tokens": 3}, {"scores": False}, {"lora": "second", "guided": False}
    )
    replies = ask_each(
        [(short, question("shoe", "second")), (plain, question("shoe")), (free, question("shoe", "second"))]
    )
    assert replies[0].log_probs == pytest.approx(merged["second"][0].log_probs[:3], abs=1e-3)
    assert replies[1] == Generated(merged[None][0].text, usage=replies[1].usage)
    assert replies[0].usage.answer_tokens == 3
    assert replies[2].text != merged["second"][0].text
    assert len(replies[2].log_probs) == 24


def test_a_member_that_closes_leaves_the_others_their_base(start, merged) -> None:
    first, second = start({"lora": "red.one"}, {"lora": "second", "max_new_tokens": 1500, "guided": False})
    late: list[Reply] = []
    second.submit(question("shoe", "second"), late.append)
    second.close()
    assert_alike(ask_each([(first, question(text, "red.one")) for text in TEXTS]), merged["red.one"])
    assert not late
    host = first._host
    first.close()
    assert not host.batcher._thread.is_alive()
    again, _ = start({"lora": "red.one"}, {"lora": "second"})
    assert again._host is not host


def test_an_expired_question_leaves_the_others_of_its_batch(start, merged) -> None:
    first, second = start({"lora": "red.one"}, {"lora": "second"})
    late = Question("shoe", SCHEMA, "shoe", "", NAMES, time.monotonic_ns(), adapter="second")
    status, reply = ask_each([(second, late), (first, question("shoe", "red.one"))])
    assert status == Status.TIMEOUT
    assert_alike([reply], merged["red.one"][:1])


def test_adapters_have_the_type_of_the_weights(start) -> None:
    members = start(*({"lora": adapter, "dtype": "bfloat16"} for adapter in ADAPTERS))
    model = members[0]._host.loaded.model
    assert {str(weights.dtype) for weights in model.parameters()} == {"torch.bfloat16"}
    replies = ask_each([(m, question("shoe", a)) for m, a in zip(members, ADAPTERS, strict=True)])
    assert len({reply.text for reply in replies}) > 1


def test_adapters_that_cannot_share_a_batch_are_refused_with_the_fix(folder, start) -> None:
    write_adapter(folder / "dora", folder / "base", use_dora=True)
    start({"lora": "dora"})
    with pytest.raises(RuntimeConfigError, match=r"dora, second of base cannot .*DoRA.*shared: false"):
        start({"lora": "dora"}, {"lora": "second"})


@pytest.mark.parametrize("part", ["ChatTokenizer", "Answers"])
def test_a_member_that_cannot_be_opened_leaves_no_model_behind(start, monkeypatch, part) -> None:
    import quorum.runtimes.hf as module

    def fail(*_: Any) -> Any:
        raise ValueError("rehearsed")

    before = threading.active_count()
    monkeypatch.setattr(module, part, fail)
    with pytest.raises(ValueError, match="rehearsed"):
        start({"lora": "red.one"}, {"lora": "second"})
    assert threading.active_count() == before
    assert not module.Host._open


def test_an_adapter_of_another_base_is_named(folder, start) -> None:
    write_checkpoint(folder / "other", hidden_size=48)
    write_adapter(folder / "foreign", folder / "other")
    with pytest.raises(RuntimeConfigError, match=r"member 'm0': .*foreign or .*second is no adapter of base"):
        start({"lora": "foreign"}, {"lora": "second"})


def test_continuous_batches_mix_no_adapters() -> None:
    with pytest.raises(OptionError, match="batching: dynamic") as error:
        HfOptions(model="base", adapters={"color": "second"}, batching="continuous")
    assert error.value.key == "batching"
    assert HfOptions(model="base", lora="a", adapters={"color": "a"}, batching="continuous")
