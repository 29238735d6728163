# SPDX-License-Identifier: Apache-2.0
"""The file of callers: names, roles, quotas, and hashes of their keys.

A key is 256 random bits, so a plain SHA-256 keeps it secret: there is no dictionary to try, and a slow hash,
made for passwords, would only cost time at every request. The file never holds a key.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from quorum.files import write_atomic
from quorum_contract.errors import QuorumError

logger = logging.getLogger(__name__)

Role = Literal["extract", "recommend", "read"]
ROLES: tuple[Role, ...] = ("extract", "recommend", "read")
"""What a caller may do: ask for attributes, ask for keyphrases, read health and metadata, which all may."""
KEY_PREFIX = "quorum_"
_KEY_BYTES = 32
_NAME = r"^[a-z0-9][a-z0-9_.-]{0,62}$"
_HASH = r"^sha256:[0-9a-f]{64}$"
_LOOK_S = 0.2

Requests = Annotated[int, msgspec.Meta(ge=1)]


class KeysError(QuorumError, ValueError):
    """The file of callers cannot be used; the message names the file and the caller."""

    code = "KEYS_INVALID"


class Caller(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One caller of the gateway.

    Attributes:
        name: In logs and counts.
        hash: ``sha256:`` and the hash of its key, hexadecimal.
        roles: What it may do.
        requests_per_minute: None: no limit. Minutes and days are those of UTC.
        requests_per_day: None: no limit.
        cost_per_day: In the currency of the deployment's prices; None: no limit.
        created: When the key was made, UTC.
    """

    name: Annotated[str, msgspec.Meta(pattern=_NAME)]
    hash: Annotated[str, msgspec.Meta(pattern=_HASH)]
    roles: tuple[Role, ...] = ("extract", "recommend")
    requests_per_minute: Requests | None = None
    requests_per_day: Requests | None = None
    cost_per_day: Annotated[float, msgspec.Meta(gt=0)] | None = None
    created: str | None = None

    @property
    def limits(self) -> dict[str, float | None]:
        """Its quotas, by the names that a :class:`quorum.serving.budget.Budget` has for them."""
        return {
            "calls_per_minute": self.requests_per_minute,
            "calls_per_day": self.requests_per_day,
            "per_day": self.cost_per_day,
        }


class _File(msgspec.Struct, forbid_unknown_fields=True):
    callers: list[Caller] = msgspec.field(default_factory=list)


def hash_of(key: str) -> str:
    """The form in which the file holds a key."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def read_callers(path: Path) -> list[Caller]:
    """The callers of a file.

    Raises:
        KeysError: The file cannot be read, has other content, or names a caller or a key twice.
    """
    try:
        callers = msgspec.json.decode(path.read_bytes(), type=_File).callers
    except FileNotFoundError as error:
        raise KeysError(f"{path} does not exist; make it with `quorum gateway keys add NAME`") from error
    except OSError as error:
        raise KeysError(f"{path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise KeysError(f"{path}: {error}; write it with `quorum gateway keys`") from error
    for what, values in (("name", [c.name for c in callers]), ("hash", [c.hash for c in callers])):
        if len(set(values)) < len(values):
            twice = next(c.name for c in callers if values.count(getattr(c, what)) > 1)
            raise KeysError(f"{path}: two callers have the {what} of {twice!r}; remove one")
    return callers


def add_caller(
    path: Path,
    name: str,
    roles: Sequence[Role] = ("extract", "recommend"),
    *,
    requests_per_minute: int | None = None,
    requests_per_day: int | None = None,
    cost_per_day: float | None = None,
) -> str:
    """Add a caller to the file, which is made where there is none, and return its key; it is kept nowhere.

    Raises:
        KeysError: The file has a caller of that name, or the name or a limit cannot be used.
    """
    if not re.fullmatch(_NAME, name):
        raise KeysError(f"{name!r} cannot name a caller; use a-z, 0-9, '_', '.', '-'")
    if unknown := [role for role in roles if role not in ROLES]:
        raise KeysError(f"unknown role {unknown[0]!r}; use {', '.join(ROLES)}")
    for limit in (requests_per_minute, requests_per_day, cost_per_day):
        if limit is not None and not limit > 0:
            raise KeysError(
                f"a limit of {limit:g} lets no request pass; leave it out for none, or remove the caller"
            )
    key = KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    caller = Caller(
        name, hash_of(key), tuple(roles), requests_per_minute, requests_per_day, cost_per_day, created
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with _changing(path):
        callers = read_callers(path) if path.exists() else []
        if any(caller.name == name for caller in callers):
            raise KeysError(f"{path} has a caller {name!r}; remove it first, or choose another name")
        _write(path, [*callers, caller])
    return key


def remove_caller(path: Path, name: str) -> None:
    """Remove a caller; a running gateway refuses its key from then on.

    Raises:
        KeysError: The file has no such caller.
    """
    if not path.parent.is_dir():
        raise KeysError(f"{path} does not exist")
    with _changing(path):
        callers = read_callers(path)
        kept = [caller for caller in callers if caller.name != name]
        if len(kept) == len(callers):
            known = ", ".join(caller.name for caller in callers) or "none"
            raise KeysError(f"{path} has no caller {name!r}; it has {known}")
        _write(path, kept)


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """Keep other processes from changing the file meanwhile: what they read would be lost."""
    # The folder is locked, for milliseconds: the file is replaced, and need not exist.
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(path: Path, callers: list[Caller]) -> None:
    text = msgspec.json.format(msgspec.json.encode(_File(callers)), indent=2).decode()
    write_atomic(path, f"{text}\n", mode=0o600)


class Keys:
    """Finds the caller of a key. The file is read again when it is replaced; a faulty one changes nothing.

    Args:
        path: The file of callers; None: there are only the others.
        others: More callers, such as the one with the key of the environment.

    Raises:
        KeysError: The file cannot be used at the start.

    Attributes:
        version: A number that grows when there are other callers.
    """

    def __init__(self, path: Path | None, others: Sequence[Caller] = ()) -> None:
        self._path, self._others = path, list(others)
        self._mark = self._look()
        self._looked_at = time.monotonic()
        self._by_hash: dict[str, Caller] = {}
        self.version = 0
        # A file that is made later is read then, where others may call already.
        self._take(read_callers(path) if path and (path.exists() or not others) else [])

    def caller(self, key: str) -> Caller | None:
        """The caller of a key; None: no caller has it."""
        self._read_again()
        # What the search may give away by its time is of the hash, from which no key follows.
        return self._by_hash.get(hash_of(key))

    def callers(self) -> list[Caller]:
        """All callers."""
        return list(self._by_hash.values())

    def _take(self, callers: list[Caller]) -> None:
        self._by_hash = {caller.hash: caller for caller in (*callers, *self._others)}
        self.version += 1

    def _look(self) -> tuple[int, int, int] | None:
        if self._path is None:
            return None
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size

    def _read_again(self) -> None:
        """Take the file's callers if it was replaced."""
        now = time.monotonic()
        if self._path is None or now - self._looked_at < _LOOK_S:
            return
        self._looked_at = now
        if (mark := self._look()) == self._mark:
            return
        self._mark = mark
        try:
            self._take(read_callers(self._path))
        except KeysError as error:
            logger.error("the keys stay as they were: %s", error)  # noqa: TRY400  (the message says it all)
        else:
            logger.warning("%s was read again: %d callers", self._path, len(self._by_hash))
