# SPDX-License-Identifier: Apache-2.0
"""Ask an LLM behind an OpenAI-compatible API: a hosted one, vLLM, NIM, or any other server of that API."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress

from quorum.runtimes.base import Done, Question, Reply, RuntimeSettings
from quorum.runtimes.openai_options import OpenAiOptions
from quorum.runtimes.remote.caller import Caller
from quorum.runtimes.remote.endpoint import Endpoint, Limits
from quorum.runtimes.remote.exchange import Exchange, new_client
from quorum.runtimes.remote.key import KeyProblem, KeySource
from quorum.runtimes.remote.note import RemoteNote
from quorum.runtimes.remote.watched import Watched
from quorum_contract import Status

logger = logging.getLogger(__name__)

_NOTE_EVERY_S = 1.0


class OpenAiRuntime:
    """Asks endpoints, by :class:`quorum.runtimes.openai_options.OpenAiOptions`.

    All requests are made by one thread with an event loop. Whether an endpoint can be reached is not looked
    at when it starts: a member whose endpoint is down abstains, and answers once that is back.

    Args:
        settings: Of the member.
        limits: Of each endpoint; None: those of the options. For tests, whose minutes are shorter.
    """

    def __init__(self, settings: RuntimeSettings[OpenAiOptions], limits: Limits | None = None) -> None:
        settings.check_files()
        options, root = settings.options, settings.root
        path = root / options.api_key_file if options.api_key_file else None
        try:
            keys = KeySource(options.api_key_env, path)
        except KeyProblem as problem:
            raise settings.error(f"options.{problem.option}: {problem}") from problem
        self._member = settings.member
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._client = new_client(options, root)
        limits = limits or _limits(options)
        watched = [
            Watched(self._member, Endpoint(url, limits), Exchange(self._client, options, url, keys))
            for url in options.base_urls
        ]
        self._caller = Caller(self._member, watched, options.max_tokens, options.max_wait_s, options.hedge)
        self._note, self._stopping = RemoteNote(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="quorum-openai", daemon=True)
        self._thread.start()

    def submit(self, question: Question, done: Done) -> None:
        """Have the question asked by the thread."""
        self._loop.call_soon_threadsafe(self._begin, question, done)

    def close(self) -> None:
        """Close streams and connections; questions in flight are dropped."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                # In a thread: questions are answered by this loop too, and disks may be slow.
                await asyncio.to_thread(self._note.write, self._caller.state())
            except Exception:
                logger.exception("member %s: could not note the state of its endpoints", self._member)
            with suppress(TimeoutError):
                async with asyncio.timeout(_NOTE_EVERY_S):
                    await self._stopping.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    def _begin(self, question: Question, done: Done) -> None:
        task = self._loop.create_task(self._answer(question, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

        def cancel() -> None:
            # After `close` there is no loop, and nothing to cancel.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(task.cancel)

        question.cancellation.when_cancelled(cancel)

    async def _answer(self, question: Question, done: Done) -> None:
        reply: Reply
        try:
            reply = await self._caller.answer(question)
        except Exception:
            logger.exception("member %s: a question could not be asked", self._member)
            reply = Status.ERROR
        if not self._stopping.is_set():
            done(reply)


def _limits(options: OpenAiOptions) -> Limits:
    return Limits(options.requests_per_minute, options.tokens_per_minute, options.max_concurrency)
