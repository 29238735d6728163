# SPDX-License-Identifier: Apache-2.0
"""Serve the review page until it is stopped, and keep the table with gold up to date meanwhile."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from quorum.review.choose import LabelError
from quorum.review.page.desk import Desk, ReviewOptions, ReviewReport
from quorum.review.page.export import ReviewFormat
from quorum.review.page.files import check_exports, own_files
from quorum.review.web.access import Access, checked_token
from quorum.tasks.catalogue import Catalogue

_LEAST_PAUSE_S = 1.0
_PAUSE_PER_WRITE = 10.0
"""Least time between two writes of the table, and how many times as long as a write: a large one is rare."""
_MOST_CALLS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOptions:
    """Where the page listens.

    Attributes:
        host: The address; others than loopback need a token.
        port: 0: a free one.
        token: What callers must bring; None: a random one, on loopback only.
        name: The name by which browsers reach it through a proxy with TLS; "" for none.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None
    name: str = ""


def serve_review(
    votes: str | Path,
    out: str | Path,
    options: ReviewOptions,
    page: PageOptions | None = None,
    *,
    catalogue: Catalogue | None = None,
    started: Callable[[list[str]], None] = lambda urls: None,
    problem: Callable[[str], None] = lambda text: None,
) -> ReviewReport:
    """Let people review cells of a votes table in their browsers, until SIGINT or SIGTERM; then return.

    Every decision is on the disk before the browser gets its answer; the table with gold is written some
    seconds later, and at the end. What a killed process did not write is written by the next one.

    Args:
        votes: A votes table (JSONL, Parquet or Arrow).
        out: The table with gold; its journal is next to it.
        options: Cells and people.
        page: Address and token; None: loopback, a free port, a random token.
        catalogue: As :class:`quorum.review.page.desk.Desk` takes it.
        started: Called once it listens, with the address for each person.
        problem: Called when the table cannot be written; decisions are kept, and it is tried again.

    Raises:
        LabelError: As :class:`quorum.review.page.desk.Desk`; or a token is needed, Starlette is missing, or
            the address cannot be listened at.
        VotesError: As there. WeightsError: As there.
    """
    place = page or PageOptions()
    token = checked_token(place.host, place.token)
    try:
        import uvicorn

        from quorum.review.web.app import make_app
        from quorum.review.web.connection import TimedConnection
    except ImportError as error:
        raise LabelError(
            f"the page needs Starlette and uvicorn ({error}): `pip install 'quorum[review]'`"
        ) from error
    with Desk(votes, out, options, catalogue) as desk, closing(_listen(place.host, place.port)) as listening:
        access = Access(place.host, listening.getsockname()[1], token, place.name)
        with saving(desk, problem) as changed:
            config = uvicorn.Config(
                make_app(desk, access, changed.set), log_level="warning", access_log=False, lifespan="off",
                server_header=False, date_header=False, limit_concurrency=_MOST_CALLS, loop="asyncio",
                http=TimedConnection, ws="none", timeout_graceful_shutdown=2,
            )  # fmt: skip
            with suppress(KeyboardInterrupt), _terminated_as_interrupted():
                started([access.url(name) for name in desk.reviewers])
                uvicorn.Server(config).run(sockets=[listening])
        return desk.report()


def export_review(
    votes: str | Path,
    out: str | Path,
    options: ReviewOptions,
    targets: Sequence[tuple[ReviewFormat, Path]],
    *,
    catalogue: Catalogue | None = None,
) -> ReviewReport:
    """Write the cells of a review for other programs, and its table with gold.

    Args:
        votes: A votes table, as of :func:`serve_review`.
        out: The table with gold.
        options: As there.
        targets: Formats and files; another file that exists is replaced.
        catalogue: As there.

    Raises:
        LabelError: As :class:`quorum.review.page.desk.Desk`; or a target is a file of the review, that of
            another target, or ends in .xml; nothing is written then. VotesError, WeightsError: As there.
        OSError: A file cannot be written.
    """
    check_exports(own_files(Path(votes), Path(out), options.weights), [path for _, path in targets])
    with Desk(votes, out, options, catalogue) as desk:
        desk.save()
        for form, path in targets:
            desk.export(form, path)
        return desk.report()


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, where it ends the process: uvicorn stops, then raises it again."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def saving(desk: Desk, problem: Callable[[str], None]) -> Iterator[Event]:
    """Write the table after changes, in a thread, and once more at the end; set the event on a change."""
    changed, ended = Event(), Event()
    if desk.begun:
        changed.set()

    def save() -> float:
        start = time.monotonic()
        changed.clear()
        try:
            desk.save()
        except Exception as error:
            # Whatever it is (Arrow has errors of its own): a thread that ends would leave the table as it is.
            changed.set()
            text = str(error)
            if isinstance(error, OSError) and error.filename is not None:
                text = f"{error.filename}: {error.strerror}"
            problem(f"{text}; decisions are kept, and the table is tried again")
        return time.monotonic() - start

    def save_on_change() -> None:
        while not ended.is_set():
            changed.wait()
            if not ended.is_set():
                ended.wait(max(_LEAST_PAUSE_S, _PAUSE_PER_WRITE * save()))

    thread = Thread(target=save_on_change, name="labels", daemon=True)
    thread.start()
    try:
        yield changed
    finally:
        ended.set()
        changed.set()
        thread.join()
        # Also if a write failed just now: the error then ends the command.
        if desk.begun:
            desk.save()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # By the protocol asyncio knows a socket on which it turns Nagle's algorithm off.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        # Browsers that come before the server is ready wait, instead of being refused.
        listening.listen()
    except OSError as error:
        listening.close()
        raise LabelError(
            f"cannot listen at {host}:{port} ({error}); name another --port or --host"
        ) from error
    return listening
