# SPDX-License-Identifier: Apache-2.0
"""The file of callers: what is written, what is refused, and how it is read again."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorum.gateway import keys as module
from quorum.gateway.callers import Callers
from quorum.gateway.keys import Caller, Keys, KeysError, add_caller, hash_of, read_callers, remove_caller
from quorum_client import Unauthenticated


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_caller_is_added_found_and_removed(path: Path) -> None:
    key = add_caller(path, "shop", ["extract"], requests_per_minute=60, cost_per_day=2.5)
    other = add_caller(path, "app")
    assert len(key) > 43
    assert key != other
    found = Keys(path).caller(key)
    assert found == read_callers(path)[0]
    assert (found.name, found.roles, found.requests_per_minute) == ("shop", ("extract",), 60)
    assert Keys(path).caller(key + "x") is None
    remove_caller(path, "shop")
    assert [caller.name for caller in read_callers(path)] == ["app"]
    with pytest.raises(KeysError, match="it has app"):
        remove_caller(path, "shop")


@pytest.mark.parametrize(
    ("name", "how", "problem"),
    [
        ("app", {}, "has a caller 'app'"),
        ("../app", {}, "cannot name a caller"),
        ("", {}, "cannot name a caller"),
        ("b", {"roles": ["admin"]}, "unknown role 'admin'"),
        ("b", {"requests_per_day": 0}, "lets no request pass"),
        ("b", {"cost_per_day": -1.0}, "lets no request pass"),
        ("b", {"cost_per_day": float("nan")}, "lets no request pass"),
    ],
)
def test_a_caller_that_cannot_be_is_refused(path: Path, name: str, how: dict[str, Any], problem: str) -> None:
    add_caller(path, "app")
    before = path.read_bytes()
    with pytest.raises(KeysError, match=problem):
        add_caller(path, name, **how)
    assert path.read_bytes() == before


def _add(path: Path, name: str) -> None:
    add_caller(path, name)


def test_callers_that_are_added_at_once_are_all_kept(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    names = [f"shop-{number}" for number in range(8)]
    adding = [context.Process(target=_add, args=(path, name)) for name in names]
    for process in adding:
        process.start()
    for process in adding:
        process.join()
    assert sorted(caller.name for caller in read_callers(path)) == names


def line(name: str, number: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "hash": f"sha256:{number:064d}", **more}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("callers", "Expected `object`"),
        ({"caller": []}, "unknown field"),
        ({"callers": [{"name": "a", "hash": "secret"}]}, "sha256"),
        ({"callers": [line("a/b", 0)]}, "callers.*name"),
        ({"callers": [line("a", 0, roles=["all"])]}, "all"),
        ({"callers": [line("a", 0), line("a", 1)]}, "have the name of 'a'"),
        ({"callers": [line("a", 0), line("b", 0)]}, "have the hash of 'a'"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(path: Path, content: object, problem: str) -> None:
    path.write_bytes(msgspec.json.encode(content))
    with pytest.raises(KeysError, match=problem):
        Keys(path)


def test_a_file_that_is_not_there_is_read_once_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the environment's caller may come already; else there is nothing to wait for."""
    with pytest.raises(KeysError, match="quorum gateway keys add"):
        Keys(path)
    monkeypatch.setattr(module, "_LOOK_S", 0.0)
    keys = Keys(path, [Caller("own", hash_of("environment"))])
    assert keys.caller("environment")
    key = add_caller(path, "shop")
    assert keys.caller(key)
    assert keys.caller("environment")


def test_the_file_is_not_looked_at_for_every_request(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = add_caller(path, "shop")
    keys, looks = Keys(path), list[int]()
    monkeypatch.setattr(keys, "_look", lambda: looks.append(1))
    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    keys._looked_at = now
    for _ in range(100):
        assert keys.caller(key)
    assert looks == []


@pytest.mark.parametrize("sent", [None, "", "Bearer ", "Bearer wrong", "Basic {}", "{}", b"Bearer \xff"])
def test_only_a_bearer_key_identifies(path: Path, tmp_path: Path, sent: str | bytes | None) -> None:
    key = add_caller(path, "shop")
    callers = Callers(Keys(path), tmp_path)
    assert callers.identify(f"Bearer {key}").name == "shop"
    assert callers.identify(f"Bearer {key}".encode()).name == "shop"
    assert callers.identify(f"bEARER {key}").name == "shop"
    with pytest.raises(Unauthenticated, match="authorization"):
        callers.identify(sent.format(key) if isinstance(sent, str) else sent)


def test_fields_without_a_value_are_not_written(path: Path) -> None:
    add_caller(path, "shop")
    (written,) = msgspec.json.decode(path.read_bytes())["callers"]
    assert written.keys() == {"name", "hash", "created"}
