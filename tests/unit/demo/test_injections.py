# SPDX-License-Identifier: Apache-2.0
"""Control tokens in product texts change no answer of the demo LLMs.

``pytest -n0 --log-cli-level=INFO tests/unit/demo/test_injections.py`` logs the figures of ADR 72.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence

import pytest
from score import ask_all, load_catalogue
from support.injections import Injection, injections
from vocabulary import ATTRIBUTES, HERE

from quorum.runtimes.base import Generated, RuntimeSettings
from quorum.runtimes.control_tokens import ControlTokens
from quorum.runtimes.openvino import OpenVinoRuntime
from quorum.runtimes.options import OpenVinoOptions

DEMO = sorted(folder.parent.name for folder in HERE.glob("models/*/openvino_model.xml"))
ASKED_FOR = "gender"
logger = logging.getLogger(__name__)
Answers = list[dict[str, str]]


@pytest.fixture
def runtime(request: pytest.FixtureRequest) -> Iterator[OpenVinoRuntime]:
    options = OpenVinoOptions(model=request.param)
    made = OpenVinoRuntime(RuntimeSettings(request.param, HERE / "models", options))
    yield made
    made.close()


def ask(runtime: OpenVinoRuntime, texts: Sequence[Injection], key: str) -> Answers:
    """The answers to one of the texts of each injection, by attribute."""
    rows = [{"title": getattr(one, key), "category": one.category} for one in texts]
    replies = ask_all(runtime, load_catalogue(), rows, len(rows))
    assert all(isinstance(reply, Generated) for reply in replies)
    return [json.loads(reply.text) for reply in replies if isinstance(reply, Generated)]


def changed(answers: Answers, others: Answers) -> int:
    """Different answers of attributes that the injections do not ask for."""
    names = set(ATTRIBUTES) - {ASKED_FOR}
    pairs = zip(answers, others, strict=True)
    return sum(one.get(name) != other.get(name) for one, other in pairs for name in names)


def split(controls: ControlTokens, prompt: str) -> str:
    """The other way to make text of control tokens: a space in each."""
    for control in controls.spellings:
        prompt = prompt.replace(control, f"{control[0]} {control[1:]}")
    return prompt


@pytest.mark.parametrize(
    "runtime", [DEMO[0], *(pytest.param(name, marks=pytest.mark.slow) for name in DEMO[1:])], indirect=True
)
def test_control_tokens_in_a_text_change_no_answer(
    runtime: OpenVinoRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers are those of the same words without control tokens, with the same keys."""
    texts = injections()
    assert len({one.text for one in texts}) == 50
    after, twins, bare = (ask(runtime, texts, key) for key in ("text", "twin", "bare"))
    monkeypatch.setattr(ControlTokens, "remove", lambda _, prompt: prompt)
    before = ask(runtime, texts, "text")
    monkeypatch.setattr(ControlTokens, "remove", split)
    apart = ask(runtime, texts, "text")
    logger.info(
        "of %d answers of other attributes control tokens changed %d, split by a space %d, removed %d;"
        " the words around them %d",
        len(texts) * (len(ATTRIBUTES) - 1),
        *(changed(answers, twins) for answers in (before, apart, after)),
        changed(twins, bare),
    )
    assert changed(before, twins) > 0
    assert after == twins
    assert all(tuple(answer) == ATTRIBUTES for answer in after)
