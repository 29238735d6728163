# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading

from quorum.runtimes.by_adapter import Joined, Part, split
from quorum.runtimes.lookup_options import ReplayOptions
from quorum.runtimes.options import HfOptions
from quorum.tasks.parse import Vote
from quorum_contract import Status


def vote(value: str) -> Vote:
    return Vote(value, Status.ANSWERED)


def test_one_adapter_answers_all() -> None:
    for options, adapter in (
        (HfOptions(model="m"), None),
        (HfOptions(model="m", lora="l"), "l"),
        (HfOptions(model="m", lora="l", adapters={"z": "z"}), "l"),
        (ReplayOptions(votes="v"), None),
    ):
        assert split(options, ["a", "b"]) == (Part(adapter, ("a", "b"), (0, 1)),)


def test_parts_stand_in_the_order_of_their_first_attributes() -> None:
    options = HfOptions(model="m", adapters={"b": "x", "c": "x", "d": "y"})
    assert split(options, ["d", "b", "a", "c"]) == (
        Part("y", ("d",), (0,)),
        Part("x", ("b", "c"), (1, 3)),
        Part(None, ("a",), (2,)),
    )
    assert options.adapters_used == (None, "x", "y")


def test_votes_are_joined_once_whatever_the_order_and_the_threads() -> None:
    parts = [Part(str(i), (str(i), str(i + 20)), (i, i + 20)) for i in range(20)]
    joined: list[list[str]] = []
    join = Joined(parts, lambda votes: joined.append([vote.value for vote in votes]))
    threads = [
        threading.Thread(target=join.add, args=(part, [vote(name) for name in part.attributes]))
        for part in (*parts[::-1], *parts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert joined == [[str(i) for i in range(40)]]


def test_later_votes_of_a_part_are_ignored() -> None:
    parts = [Part(None, ("a",), (0,)), Part("x", ("b",), (1,))]
    done: list[list[Vote]] = []
    join = Joined(parts, lambda votes: done.append(list(votes)))
    join.add(parts[0], [vote("first")])
    join.add(parts[0], [vote("second")])
    assert not done
    join.add(parts[1], [vote("b")])
    join.add(parts[1], [vote("late")])
    assert done == [[vote("first"), vote("b")]]


def test_a_part_with_a_wrong_number_of_votes_is_an_error() -> None:
    parts = [Part(None, ("a", "b"), (0, 1)), Part("x", ("c",), (2,))]
    done: list[list[Vote]] = []
    join = Joined(parts, lambda votes: done.append(list(votes)))
    join.add(parts[0], [vote("a")])
    join.add(parts[1], [vote("c")])
    assert [vote.status for vote in done[0]] == [Status.ERROR, Status.ERROR, Status.ANSWERED]
