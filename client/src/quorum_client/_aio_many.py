# SPDX-License-Identifier: Apache-2.0
"""Send many calls from asyncio, as the room of their run allows."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

from quorum_client._room import AS_THEY_COME, IN_ORDER, Room
from quorum_client.errors import QuorumError, Unavailable

Wanted = TypeVar("Wanted")
Result = TypeVar("Result")
Send = Callable[[Wanted], Awaitable[Result]]


async def in_order(
    items: Iterable[Wanted], room: Room, send: Send[Wanted, Result], *, keep_errors: bool
) -> AsyncIterator[Result | QuorumError]:
    """Yield the results in the order of the items; errors of a call are raised, or yielded in its place."""
    pending: deque[asyncio.Task[Result | QuorumError]] = deque()

    async def first() -> Result | QuorumError:
        result = await pending.popleft()
        if isinstance(result, QuorumError) and not keep_errors:
            raise result
        return result

    try:
        for number, item in enumerate(items):
            pending.append(asyncio.create_task(_outcome(send, item, number, room)))
            while len(pending) >= room.window(IN_ORDER) or (pending and pending[0].done()):
                yield await first()
        while pending:
            yield await first()
    finally:
        await _cancel(pending)


async def as_completed(
    items: Iterable[Wanted], room: Room, send: Send[Wanted, Result]
) -> AsyncIterator[tuple[Wanted, Result | QuorumError]]:
    """Yield each item with its result, or its error, as they come.

    A call leaves the room once the next is wanted, so that a caller that is killed loses at most as many
    answers as there may be calls in flight.
    """
    done: asyncio.Queue[asyncio.Task[Result | QuorumError]] = asyncio.Queue()
    started: dict[asyncio.Task[Result | QuorumError], Wanted] = {}
    unread = enumerate(items)
    try:
        while True:
            while len(started) < room.window(AS_THEY_COME):
                for number, item in unread:
                    task = asyncio.create_task(_outcome(send, item, number, room, leaves=False))
                    started[task] = item
                    task.add_done_callback(done.put_nowait)
                    break
                else:
                    break
            if not started:
                return
            task = await done.get()
            result = task.result()
            yield started.pop(task), result
            error = result if isinstance(result, QuorumError) else None
            room.leave(answered=error is None, error=error)
    finally:
        await _cancel(started)


async def _cancel(tasks: Iterable[asyncio.Task[Result]]) -> None:
    left = list(tasks)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def _outcome(
    send: Send[Wanted, Result], item: Wanted, number: int, room: Room, *, leaves: bool = True
) -> Result | QuorumError:
    try:
        return await _send_when_room(send, item, number, room, leaves=leaves)
    except QuorumError as error:
        return error


async def _send_when_room(
    send: Callable[[Wanted], Awaitable[Result]], item: Wanted, number: int, room: Room, *, leaves: bool
) -> Result:
    """Send an item once the run has room for it, again as long as the room postpones it.

    With ``leaves`` it leaves the room at its end; else the caller says so.
    """
    place = asyncio.Event()
    room.ask(number, place.set)
    while True:
        await place.wait()
        place.clear()
        try:
            result = await send(item)
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
            await asyncio.sleep(pause_s)
            place.set()
