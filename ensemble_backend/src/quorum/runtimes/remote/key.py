# SPDX-License-Identifier: Apache-2.0
"""Read an API key from an environment variable or a file, and keep it out of every text."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from quorum_contract.errors import QuorumError

_VISIBLE = re.compile(r"[\x21-\x7e]+")
_ESCAPE = re.compile(r"""\\+(?:(?P<char>["/\\])|u00(?P<code>[2-7][0-9a-fA-F]))""")
_MAX_BYTES = 8192
_SHORTEST = 8
HIDDEN = "[key]"
"""What stands in texts for a key."""


class KeyProblem(QuorumError, ValueError):
    """There is no key where ``option`` says; the message does not repeat what was found there."""

    code = "API_KEY_MISSING"

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


class Key:
    """A key that no formatting shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return HIDDEN

    def header(self) -> str:
        """The value of the header ``Authorization``."""
        return f"Bearer {self._text}"

    def redact(self, text: str) -> str:
        """A text without escapes, and without any part of the key that has 8 characters or more.

        Servers repeat keys in their errors: whole, cut, or escaped as in JSON.
        """
        return _hidden(_unescaped(text), _unescaped(self._text))


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda m: m["char"] or chr(int(m["code"], 16)), text)


def _hidden(text: str, key: str) -> str:
    """A text without the key, or any part of it of ``_SHORTEST`` characters or more."""
    length = min(len(key), _SHORTEST)
    parts = {key[at : at + length] for at in range(len(key) - length + 1)}
    pieces, end = list[str](), 0
    for at in range(len(text) - length + 1):
        if text[at : at + length] in parts:
            # Parts that overlap or touch are hidden as one.
            if at > end or not pieces:
                pieces += [text[end:at], HIDDEN]
            end = at + length
    return "".join([*pieces, text[end:]])


class KeySource:
    """The key of an endpoint, read when it is made; raises KeyProblem as :func:`read_key`."""

    def __init__(self, variable: str | None, path: Path | None) -> None:
        self._path = path
        self.key = read_key(variable, path)

    def refresh(self) -> None:
        """Read a file again, which may hold a new key; the old one stays where there is none."""
        if self._path is not None:
            with suppress(KeyProblem):
                self.key = read_key(None, self._path)


def read_key(variable: str | None, path: Path | None, environ: Mapping[str, str] | None = None) -> Key | None:
    """The key in an environment variable, or in a file; None if neither is named.

    Raises:
        KeyProblem: The variable is not set, the file cannot be read, or there is something else in it.
    """
    if variable is not None:
        text = (os.environ if environ is None else environ).get(variable, "").strip()
        if not text:
            raise KeyProblem(
                "api_key_env",
                f"the environment variable {variable} is not set; set it to the key where `quorum up` runs",
            )
        return _key("api_key_env", f"the environment variable {variable}", text)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES).decode("utf-8", "replace").strip()
    except OSError as error:
        raise KeyProblem(
            "api_key_file", f"{path} cannot be read ({error.strerror}); write the key into it"
        ) from error
    return _key("api_key_file", str(path), text)


def _key(option: str, place: str, text: str) -> Key:
    if not _VISIBLE.fullmatch(text):
        raise KeyProblem(option, f"{place} does not hold one word of ASCII characters; write the key alone")
    return Key(text)
