# SPDX-License-Identifier: Apache-2.0
"""Damaged bytes between the steps: a ValueError or a value, in memory that follows from their length."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter
from collections.abc import Callable

from support.mutate import LONG, LONG_FORM, damaged, patience

from quorum.serving.packing import (
    Admitted,
    add_ticket,
    pack_question,
    pack_votes,
    take_ticket,
    unpack_question,
    unpack_votes,
)
from quorum_contract import MAX_ATTRIBUTES

pytestmark = LONG_FORM
FUZZED = 200_000 if LONG else 3_000
QUESTION = Admitted("ein roter Schuh, größe 42 👟" * 20, "shoes", ("brand", "color", "größe"), 1 << 62)
LARGEST = Admitted("x" * 500, "", tuple(f"attribute {number}" for number in range(MAX_ATTRIBUTES)), -1)
VOTES = [("red", 0, -0.5), ("", 3, None), ("größe 42", 0, float("-inf"))]
FIRST_BYTES = (*range(0x80, 0xA0), *range(0xC0, 0xE0))
"""MessagePack's marks of lists, objects, extensions and all that states its own length."""
KNOWN_BYTES = 4_096
"""Memory that a short refusal takes: an exception and its words."""
BYTES_EACH = 100
"""Most bytes of memory for each byte read: a vote of three bytes is a tuple of three objects."""


def mangled(draw: random.Random, data: bytes) -> bytes:
    """Damaged bytes, now and then with a length that is none."""
    if draw.random() < 0.5:
        return damaged(draw, data, draw.choice([1, 1, 2, 4]))
    at = draw.randrange(len(data))
    claimed = draw.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x00\x01\x00\x00", b"\xff\xff", b"\x00"])
    return data[:at] + bytes([draw.choice(FIRST_BYTES)]) + claimed + data[at + draw.choice([0, 1, 5]) :]


def read(unpack: Callable[[bytes], object], data: bytes) -> bool:
    """Whether bytes are read; what is read, or refused, takes little memory."""
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        with patience():
            unpack(data)
        is_read = True
    except ValueError:
        is_read = False
    assert tracemalloc.get_traced_memory()[1] - before < KNOWN_BYTES + BYTES_EACH * len(data), data[:99]
    return is_read


def test_damaged_bytes_are_refused_or_read_in_little_memory() -> None:
    draw, found = random.Random(3), Counter[bool]()
    packed = [pack_question(QUESTION), pack_question(LARGEST), pack_votes(VOTES), pack_votes(VOTES * 20)]
    tracemalloc.start()
    try:
        for _ in range(FUZZED):
            data = mangled(draw, draw.choice(packed))
            found[read(unpack_question, data) or read(unpack_votes, data)] += 1
            ticketed = take_ticket(mangled(draw, add_ticket(draw.getrandbits(63), data)))
            read(unpack_question, ticketed.body)
    finally:
        tracemalloc.stop()
    assert min(found[False], found[True]) > FUZZED // 20
