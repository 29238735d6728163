# SPDX-License-Identifier: Apache-2.0
"""Read the values of an answer that is no valid JSON: complete pairs of a broken object, or lines.

No expression here can match one text in two ways, and none is tried more than a few times on one stretch of
text, so that the time is linear in the answer's length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from quorum.tasks.score import Span

# Control characters in a string are read, and stripped later; integers stay text, however many digits.
DECODER = json.JSONDecoder(strict=False, parse_int=str)
_QUOTE = re.compile(r'\\.|"', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")
_COLON = re.compile(r"\s*+:\s*+")
_SPACE = re.compile(r"\s*+")
_LITERAL = re.compile(r"-?\d++(?:\.\d++)?|null|true|false")
_LABEL = re.compile(r"(?:^[,;| \t]*+|[,;|])([^:=\n,;|]*+)[:=]", re.MULTILINE)
_WORDS = re.compile(r"\w(?:.*\w)?")
_VALUE_EDGE = "`*\"' "
_QUOTES = ('"', "'")


class Fragment(NamedTuple):
    """A key, its value, and where the value is; text comes with its closing quote."""

    key: str
    value: object
    span: Span


def read_pairs(answer: str) -> Iterator[Fragment]:
    """Yield the complete ``"key": value`` pairs of an answer, but none of a nested object.

    A pair is complete before a comma, a closing brace or a line's end. Behind a string without an end,
    reading goes on with the next quote.
    """
    quotes = [match.start() for match in _QUOTE.finditer(answer) if match[0] == '"']
    depth = at = number = 0
    while number + 1 < len(quotes):
        opening, closing = quotes[number : number + 2]
        depth = _depth_after(answer, Span(at, opening), depth)
        colon = _COLON.match(answer, closing + 1)
        if colon is None:
            if _is_followed(answer, closing + 1, ",]}"):
                at, number = closing + 1, number + 2
                continue
            at, number = opening + 1, number + 1
            continue
        value = colon.end()
        at, number = closing + 1, number + 2
        if answer[value : value + 1] in ("{", "["):
            at, depth = value + 1, depth + 1
            continue
        place = _place_of(answer, value, quotes[number : number + 2])
        if place is None or not _is_followed(answer, place.end, ",}", or_line_end=True):
            continue
        at = place.end
        number += 2 if answer[value] == '"' else 0
        if depth <= 1:
            yield from _decoded(answer, Span(opening, closing + 1), place)


def _depth_after(answer: str, gap: Span, depth: int) -> int:
    """The depth after a gap between strings; braces before all strings, or at a line's start, are one."""
    before = depth
    for bracket in _BRACKET.finditer(answer, *gap):
        if bracket[0] in "]}":
            depth = max(0, depth - 1)
            before = min(before, depth)
        elif not before or answer[bracket.start() - 1] == "\n":
            depth = 1
        else:
            depth += 1
    return depth


def _is_followed(answer: str, start: int, marks: str, *, or_line_end: bool = False) -> bool:
    """Whether the next character that is no white space is one of ``marks``, or a line ends before it."""
    space = _SPACE.match(answer, start)
    end = space.end() if space else start
    return (end < len(answer) and answer[end] in marks) or (or_line_end and "\n" in answer[start:end])


def _place_of(answer: str, start: int, quotes: Sequence[int]) -> Span | None:
    """Where the string or literal that begins at ``start`` is, with its quotes."""
    if len(quotes) == 2 and quotes[0] == start:
        return Span(start, quotes[1] + 1)
    literal = _LITERAL.match(answer, start)
    return Span(*literal.span()) if literal else None


def _decoded(answer: str, key: Span, value: Span) -> Iterator[Fragment]:
    start, end = value
    try:
        name, content = DECODER.decode(answer[slice(*key)]), DECODER.decode(answer[start:end])
    except ValueError:
        return
    yield Fragment(name, content, Span(start + (answer[start] == '"'), end))


def read_lines(attributes: Sequence[str], answer: str) -> Iterator[Fragment]:
    """Yield the first ``name: value`` of each attribute.

    A name begins a line, but for marks such as of a list; others may follow in the line, after a comma,
    semicolon or bar. The value is in the line, or is the next one that is not blank and has no label.
    """
    names = _by_words(tuple(attributes))
    labels: list[tuple[Span, str | None]] = []
    line_end = -1
    for match in _LABEL.finditer(answer):
        name = _name_of(names, match[1])
        if match.start() == 0 or answer[match.start() - 1] == "\n":
            line_end = -1 if name is None else _line_end(answer, match.end())
        elif name is None or match.start() >= line_end:
            continue
        labels.append((Span(*match.span()), name))
    starts = [label.start for label, _ in labels] + [len(answer)]
    seen: set[str] = set()
    for (label, name), end in zip(labels, starts[1:], strict=True):
        place = _first_line(answer, Span(label.end, end)) if name and name not in seen else None
        if name and place:
            seen.add(name)
            closed = place.end + (answer[place.end : place.end + 1] in _QUOTES)
            yield Fragment(name, answer[slice(*place)], Span(place.start, closed))


@lru_cache(maxsize=256)
def _by_words(attributes: tuple[str, ...]) -> Mapping[str, list[str]]:
    """Names by their text from the first to the last letter or digit, the longest name first."""
    found: dict[str, list[str]] = {}
    for name in sorted(attributes, key=len, reverse=True):
        if words := _WORDS.search(name):
            found.setdefault(words[0].casefold(), []).append(name)
    return found


def _name_of(names: Mapping[str, list[str]], label: str) -> str | None:
    """The longest name that a label is, but for marks around it."""
    words = _WORDS.search(label)
    if words is None:
        return None
    folded = label.casefold()
    alike = names.get(words[0].casefold(), ())
    return next((name for name in alike if name.casefold() in folded), None)


def _first_line(answer: str, part: Span) -> Span | None:
    """Where the first line with text is, without a separator at its end, and without quotes."""
    text = answer[slice(*part)]
    line, _, _ = text.lstrip().partition("\n")
    line = line.rstrip()
    if not line:
        return None
    start = part.start + len(text) - len(text.lstrip())
    inner = line[:-1].rstrip() if line[-1] in ",;|" else line
    is_cut = inner[:1] == '"' and inner.count('"') == 1
    if not inner or is_cut:
        return None
    shorter = inner.rstrip(_VALUE_EDGE)
    end = start + len(shorter)
    return Span(min(start + len(inner) - len(inner.lstrip(_VALUE_EDGE)), end), end)


def _line_end(answer: str, start: int) -> int:
    end = answer.find("\n", start)
    return len(answer) if end < 0 else end
