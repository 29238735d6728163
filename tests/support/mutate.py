# SPDX-License-Identifier: Apache-2.0
"""Seeded damage to valid inputs: to trees of JSON values, to their text, and to bytes."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

LONG = bool(os.environ.get("QUORUM_LONG"))
LONG_FORM = [pytest.mark.timeout(3_600)] if LONG else []
"""Marks of a file that damages inputs: its long form takes minutes of CPU time."""
PATIENCE_S = 20.0
"""CPU time after which one input counts as one that never ends; all are read in a fraction of a second."""
_RAW = "\ue000raw:"
_TWICE = "\ue000twice:"
_DEEP = 3_000
_STRANGE_TEXTS = (
    "",
    " ",
    "n/a",
    "x" * 20_000,
    "\0",
    "\x1b[31mred",
    "\u202ered\u2066",
    "\ufeff",
    "\ue000",
    "e\u0301\u0316" * 200,
    "\U0001f45f",
    "$'\"\\|%{}[]<>&\n\r\t",
    "../../etc/passwd",
    "1e308",
    "null",
    "\ud800",
    "a\udfff",
)
_STRANGE_NUMBERS = (
    0,
    -0.0,
    1,
    -1,
    3,
    0.1 + 0.2,
    5e-324,
    1e16,
    1e308,
    -1e308,
    1.7976931348623157e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    1 << 31,
    1 << 63,
    -(1 << 63) - 1,
    10**400,
)
_STRANGE_JSON = (
    "9" * 5_000,
    "1e999",
    "-1e-999",
    "1." + "0" * 5_000 + "1",
    "[" * _DEEP + "]" * _DEEP,
    '{"a":' * _DEEP + "1" + "}" * _DEEP,
    r'"\ud800"',
    r'"\ud83d\ud83d\ude00"',
    "tru",
    "01",
    "'x'",
)
_STRANGE_BYTES = (b"\0", b"\xff", b"\x80", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\xed\xa0\x80", b"\n")


class InputNeverEnds(BaseException):
    """One input took :data:`PATIENCE_S` of CPU time; no Exception, which a reader might turn into its own."""


@contextmanager
def patience(seconds: float = PATIENCE_S) -> Iterator[None]:
    """Raise InputNeverEnds in a block that takes more CPU time, of the main thread's process."""

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise InputNeverEnds

    before = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def as_json(tree: Any) -> str:
    """The text of a tree that :func:`mutated` made, which may be no JSON."""
    text = json.dumps(tree, ensure_ascii=True)
    text = re.sub(
        r'"\\ue000raw:((?:[^"\\]|\\.)*)"', lambda found: json.loads(f'"{found[1]}"'), text, flags=re.DOTALL
    )
    return re.sub(r'"\\ue000twice:\d+:', '"', text)


def mutated(draw: random.Random, tree: Any, times: int = 1) -> Any:
    """A copy of a tree of JSON values with damage at ``times`` random places; write it by :func:`as_json`."""
    tree = copy.deepcopy(tree)
    for _ in range(times):
        places = list(_places(tree))
        if not places:
            return tree
        container, key = draw.choice(places)
        draw.choice(_DAMAGE)(draw, container, key)
    return tree


def damaged(draw: random.Random, data: bytes, times: int = 1) -> bytes:
    """Bytes with ``times`` flips, cuts, repeats, splices or insertions."""
    for _ in range(times):
        at, to = sorted(draw.randrange(len(data) + 1) for _ in range(2))
        to = min(to, at + draw.choice([1, 4, 64, len(data)]))
        match draw.randrange(7):
            case 0 | 1 | 2 if at < len(data):
                data = data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
            case 3:
                data = data[:at]
            case 4:
                data = data[:to] + data[at:]
            case 5:
                data = data[:at] + data[to:]
            case _:
                data = data[:at] + draw.choice(_STRANGE_BYTES) + data[at:]
    return data


def strange_value(draw: random.Random) -> Any:
    """A value that no reader expects."""
    match draw.randrange(5):
        case 0:
            return draw.choice(_STRANGE_TEXTS)
        case 1 | 2:
            return draw.choice(_STRANGE_NUMBERS)
        case 3:
            return _RAW + draw.choice(_STRANGE_JSON)
        case _:
            return draw.choice([None, True, False, [], {}, [[]], {"": None}, [None] * 200])


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key or index) of a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield tree, key
        yield from _places(value)


def _replace(draw: random.Random, container: Any, key: Any) -> None:
    container[key] = strange_value(draw)


def _vary_number(draw: random.Random, container: Any, key: Any) -> None:
    """Another number where there is one: most stay valid, and reach what is behind the checks."""
    value = container[key]
    if isinstance(value, int | float) and not isinstance(value, bool):
        other = draw.choice(_STRANGE_NUMBERS)
        container[key] = draw.choice([other, -value, value * 3, value * 10**300])
    else:
        _replace(draw, container, key)


def _vary_text(draw: random.Random, container: Any, key: Any) -> None:
    value = container[key]
    if isinstance(value, str):
        at = draw.randrange(len(value) + 1)
        container[key] = value[:at] + draw.choice(_STRANGE_TEXTS) + value[at:]
    else:
        _replace(draw, container, key)


def _remove(_draw: random.Random, container: Any, key: Any) -> None:
    del container[key]


def _repeat(draw: random.Random, container: Any, key: Any) -> None:
    """An element again, or a key that stands twice."""
    if isinstance(container, list):
        container.insert(key, copy.deepcopy(container[key]))
    else:
        container[f"{_TWICE}{draw.randrange(10**6)}:{key}"] = copy.deepcopy(container[key])


def _wrap(draw: random.Random, container: Any, key: Any) -> None:
    container[key] = draw.choice([[container[key]], {"a": container[key]}, {key: container[key]}])


def _rename(draw: random.Random, container: Any, key: Any) -> None:
    if isinstance(container, dict):
        container[draw.choice(_STRANGE_TEXTS)] = container.pop(key)
    else:
        _wrap(draw, container, key)


def _swap(draw: random.Random, container: Any, key: Any) -> None:
    other = draw.choice(list(container) if isinstance(container, dict) else range(len(container)))
    container[key], container[other] = container[other], container[key]


_DAMAGE: tuple[Callable[[random.Random, Any, Any], None], ...] = (
    _replace,
    _vary_number,
    _vary_number,
    _vary_text,
    _remove,
    _repeat,
    _wrap,
    _rename,
    _swap,
)
