# SPDX-License-Identifier: Apache-2.0
"""Members of runtime ``encoder`` on networks that answer by a table of words."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from quorum.runtimes.base import Question, Reply, RuntimeSettings
from quorum.runtimes.options import EncoderOptions
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue

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


def settings(
    root: Path, model: str, catalogue: Catalogue = CATALOGUE, **options: Any
) -> RuntimeSettings[EncoderOptions]:
    return RuntimeSettings("small", root, EncoderOptions(model=model, **options), catalogue=catalogue)


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
