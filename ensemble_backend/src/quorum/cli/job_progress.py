# SPDX-License-Identifier: Apache-2.0
"""Show how far a job is: a bar on a terminal, else a plain line every so often."""

from __future__ import annotations

import time
from types import TracebackType

from rich import progress
from rich.table import Column

from quorum.bulk.durations import in_words
from quorum.bulk.progress import JobProgress
from quorum.bulk.spent import money
from quorum.cli.console import err, note

_WIDE = 110


def line_of(state: JobProgress, currency: str) -> str:
    """The state of a job in one line."""
    share = f" ({state.done / state.total:.0%})" if state.total else ""
    return ", ".join([f"{state.done} of {state.total} rows{share}", *_parts(state, currency)])


def _parts(state: JobProgress, currency: str) -> list[str]:
    parts = []
    if state.waits:
        parts.append("waiting for the server")
    elif state.rate:
        parts.append(f"{state.rate:.3g} rows/s")
    if state.eta_s is not None and state.done < state.total and not state.waits:
        parts.append(f"{in_words(state.eta_s)} left")
    if state.cost is not None:
        parts.append(f"cost {money(state.cost, currency)}")
    if state.abstained:
        parts.append(f"{state.abstained:.1%} abstained")
    if state.failed:
        parts.append(f"{state.failed} failed")
    return parts


class JobDisplay:
    """Shows the states of a job during a ``with`` block, on standard error.

    Args:
        currency: Of the cost.
        every_s: Seconds to the first line, and between two, where standard error is no terminal; 0: none.
    """

    def __init__(self, currency: str, every_s: float) -> None:
        self._currency, self._every_s = currency, every_s
        self._shown_at = 0.0
        self._task: progress.TaskID | None = None
        # The line is what counts: a narrow terminal has no room for both.
        bar = [progress.BarColumn(bar_width=20)] if err.width >= _WIDE else []
        self._bar = progress.Progress(
            *bar,
            progress.TextColumn("{task.description}", table_column=Column(no_wrap=False, overflow="fold")),
            console=err,
            transient=True,
            refresh_per_second=5,
        )

    def __enter__(self) -> JobDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._bar.stop()

    def __call__(self, state: JobProgress) -> None:
        """Show a state, if it is time for it."""
        if err.is_terminal:
            if self._task is None:
                self._bar.start()
                self._task = self._bar.add_task("", total=state.total)
            text = line_of(state, self._currency)
            self._bar.update(self._task, completed=state.done, total=state.total, description=text)
            return
        now = time.monotonic()
        if self._every_s and now - self._shown_at >= self._every_s:
            if self._shown_at:
                note(line_of(state, self._currency))
            self._shown_at = now
