# SPDX-License-Identifier: Apache-2.0
"""The documentation as its readers find it: pages, headings, links, blocks of code, commands."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
FOLDERS = ("docs", "client", "examples", "benchmarks", "deploy")
_INCLUDED = re.compile(r'^--8<-- "(.+)"$', re.M)
_SEPARATORS = frozenset({"|", "||", "&&", ";", "&", "(", ")"})
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.S)
_HERE = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")
_REDIRECTION = re.compile(r"\d*(>>?|<)(&?\d+)?(.*)")


@dataclass(frozen=True)
class Block:
    """A block of code: the first word after its fence, its text, and its first line in the page."""

    language: str
    text: str
    line: int


def pages() -> list[str]:
    """Paths of all Markdown files, from the root of the repository."""
    found = [*ROOT.glob("*.md"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*.md"))]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


@functools.cache
def tokens(page: str) -> tuple[Token, ...]:
    """A page as its Markdown is read."""
    return tuple(MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text("utf-8")))


def inline(page: str) -> Iterator[tuple[Token, int]]:
    """Links, images and code within the text, with the line of their paragraph."""
    for token in tokens(page):
        if token.type == "inline":
            for child in token.children or ():
                yield child, (token.map or [0])[0] + 1


def links(page: str) -> Iterator[tuple[str, int]]:
    """The targets of a page's links and pictures, with their lines."""
    for token, line in inline(page):
        target = token.attrGet("href") or token.attrGet("src")
        if target:
            yield str(target), line


@functools.cache
def anchors(page: str) -> frozenset[str]:
    """What a link may name after ``#``, as hosts of repositories make it of headings."""
    found: list[str] = []
    all_tokens = tokens(page)
    for token, following in pairwise(all_tokens):
        if token.type == "heading_open":
            text = "".join(
                part.content for part in following.children or () if part.type in ("text", "code_inline")
            )
            slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return frozenset(found)


def blocks(page: str, *languages: str) -> list[Block]:
    """The blocks of code in these languages, with the files that the site includes in them."""
    return [
        Block(token.info.split()[0], _INCLUDED.sub(_file, token.content), (token.map or [0])[0] + 2)
        for token in tokens(page)
        if token.type == "fence" and token.info.split()[:1] and token.info.split()[0] in languages
    ]


def _file(included: re.Match[str]) -> str:
    return (ROOT / included[1]).read_text("utf-8")


def commands(block: Block) -> Iterator[tuple[list[str], int]]:
    """The commands of a shell block, each as words without variables, with their lines."""
    for start, found in _words(block):
        words: list[str] = []
        for word in [*found, ";"]:
            if word in _SEPARATORS:
                if words:
                    yield words, start
                words = []
            elif words or not _ASSIGNMENT.fullmatch(word):
                words.append(word)


def _words(block: Block) -> Iterator[tuple[int, list[str]]]:
    """The words of each line with those that it goes on with; texts for a command's input are left out."""
    whole, start, until = "", 0, ""
    for number, line in enumerate(block.text.splitlines(), block.line):
        if until:
            until = "" if line.strip() == until else until
            continue
        whole, start = (f"{whole}\n{line}", start) if whole else (line, number)
        if found := _HERE.search(whole):
            until, whole = found[1], whole[: found.start()] + whole[found.end() :]
        lexer = shlex.shlex(whole.replace("\\\n", " "), posix=True, punctuation_chars="();|&")
        lexer.whitespace_split, lexer.commenters = True, "#"
        try:
            words = list(lexer)
        except ValueError:
            continue  # a quotation that goes on
        if not whole.endswith("\\"):
            yield start, words
            whole = ""
    assert not whole, f"line {start}: a quotation does not end"


def without_redirections(words: list[str]) -> list[str]:
    """A command's own words."""
    kept: list[str] = []
    skip = False
    for word in words:
        found = _REDIRECTION.fullmatch(word)
        if skip or found:
            skip = bool(found and not found[2] and not found[3])
            continue
        kept.append(word)
    return kept
