# SPDX-License-Identifier: Apache-2.0
"""Send many calls from threads, as the room of their run allows."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TypeVar

from quorum_client._room import AS_THEY_COME, IN_ORDER, Room
from quorum_client.errors import QuorumError, Unavailable

Wanted = TypeVar("Wanted")
Result = TypeVar("Result")
Send = Callable[[Wanted], Result]


class _Threads:
    """The threads of a run, and its end."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._pool = ThreadPoolExecutor(room.most, thread_name_prefix="quorum-client")
        self._ended = threading.Event()

    def start(
        self, send: Send[Wanted, Result], item: Wanted, number: int, *, leaves: bool = True
    ) -> Future[Result | QuorumError]:
        """Send an item once there is room; it leaves the room at its end, or else the caller says so."""

        def outcome() -> Result | QuorumError:
            try:
                return _send_when_room(send, item, number, self._room, self._ended, leaves=leaves)
            except QuorumError as error:
                return error

        return self._pool.submit(outcome)

    def end(self) -> None:
        """Stop what has not been sent; waiting for the calls in flight would delay the caller's error."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._ended.set()
        self._room.close()


@contextmanager
def _threads(room: Room, cancel: Callable[[], None]) -> Iterator[_Threads]:
    threads = _Threads(room)
    try:
        yield threads
    finally:
        threads.end()
        cancel()


def in_order(
    items: Iterable[Wanted],
    room: Room,
    send: Send[Wanted, Result],
    cancel: Callable[[], None],
    *,
    keep_errors: bool,
) -> Iterator[Result | QuorumError]:
    """Yield the results in the order of the items; errors of a call are raised, or yielded in its place.

    ``cancel`` is called at the end, for calls in flight.
    """
    pending: deque[Future[Result | QuorumError]] = deque()

    def first() -> Result | QuorumError:
        result = pending.popleft().result()
        if isinstance(result, QuorumError) and not keep_errors:
            raise result
        return result

    with _threads(room, cancel) as threads:
        for number, item in enumerate(items):
            pending.append(threads.start(send, item, number))
            while len(pending) >= room.window(IN_ORDER) or (pending and pending[0].done()):
                yield first()
        while pending:
            yield first()


def as_completed(
    items: Iterable[Wanted], room: Room, send: Send[Wanted, Result], cancel: Callable[[], None]
) -> Iterator[tuple[Wanted, Result | QuorumError]]:
    """Yield each item with its result, or its error, as they come; ``cancel`` as in :func:`in_order`.

    A call leaves the room once the next is wanted, so that a caller that is killed loses at most as many
    answers as there may be calls in flight.
    """
    done: SimpleQueue[Future[Result | QuorumError]] = SimpleQueue()
    started: dict[Future[Result | QuorumError], Wanted] = {}
    unread = enumerate(items)
    with _threads(room, cancel) as threads:
        while True:
            while len(started) < room.window(AS_THEY_COME):
                for number, item in unread:
                    future = threads.start(send, item, number, leaves=False)
                    started[future] = item
                    future.add_done_callback(done.put)
                    break
                else:
                    break
            if not started:
                return
            future = done.get()
            result = future.result()
            yield started.pop(future), result
            error = result if isinstance(result, QuorumError) else None
            room.leave(answered=error is None, error=error)


def _send_when_room(
    send: Callable[[Wanted], Result],
    item: Wanted,
    number: int,
    room: Room,
    ended: threading.Event,
    *,
    leaves: bool,
) -> Result:
    """Send an item once the run has room for it, again as long as the room postpones it.

    With ``leaves`` it leaves the room at its end; else the caller says so.
    """
    place = threading.Event()
    room.ask(number, place.set)
    while True:
        place.wait()
        place.clear()
        try:
            if ended.is_set():
                raise RuntimeError("the run has ended: its results are not read any more")
            result = send(item)
        except BaseException as error:
            if not (isinstance(error, Unavailable) and room.postpones(error)):
                if leaves:
                    room.leave(answered=False, error=error)
                else:
                    room.ended()
                raise
            pause_s = room.refused(number, place.set, error)
        else:
            if leaves:
                room.leave(answered=True)
            else:
                room.ended()
            return result
        if pause_s is not None:
            ended.wait(pause_s)
            place.set()
