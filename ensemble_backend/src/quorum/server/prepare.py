# SPDX-License-Identifier: Apache-2.0
"""Prepare a repository for a start: undo an interrupted rollout, leave damaged versions out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from quorum.deployment.schema import Deployment
from quorum.repository.store import Store
from quorum.rollout.lock import RolloutError
from quorum.rollout.offline import (
    quarantine,
    recover_apply,
    recover_offline,
    set_damaged_apply_aside,
    set_damaged_journal_aside,
)
from quorum.server.following import applied
from quorum_contract.errors import QuorumError

_ROLLOUT_S = 2.0
_POLL_S = 0.1


def prepare(spec: Deployment, repository: Path, report: Callable[[str], None]) -> None:
    """Prepare a repository that no server reads; ``report`` gets a line for all that was done.

    Raises:
        RepositoryError: Its state cannot be read.
        RolloutError: A rollout is running on it.
    """
    if not repository.is_dir():
        return
    _settle_apply(repository, report, with_copies=True)
    if set_aside := set_damaged_journal_aside(spec, repository):
        report(str(set_aside))
    if interrupted := recover_offline(spec, repository):
        report(f"{interrupted.action} {interrupted.version} was interrupted; undone")
    for damaged in quarantine(spec, repository):
        report(str(damaged))


def prepare_again(spec: Deployment, repository: Path, report: Callable[[str], None]) -> None:
    """Prepare a repository whose server ended, as far as that is possible, and never raise.

    A rollout that runs in another process notices that the server is gone and undoes itself; the start waits
    for it a moment, and then goes ahead: at every moment of a rollout, what lies on disk can be served.
    """
    deadline = time.monotonic() + _ROLLOUT_S
    while True:
        try:
            _settle_apply(repository, report, with_copies=False)
            Store(repository).state_if_any()  # It says best what is wrong with it.
            followed = applied(spec, repository)
            if followed is None:
                report(f"starting without a look at the repository: {spec.path} was changed and not applied")
                return
            prepare(followed, repository, report)
        except RolloutError as error:
            if time.monotonic() < deadline:
                time.sleep(_POLL_S)
                continue
            report(f"starting without a look at the repository: {error}")
        except (QuorumError, OSError) as error:
            report(f"starting without a look at the repository: {error}")
        return


def _settle_apply(repository: Path, report: Callable[[str], None], *, with_copies: bool) -> None:
    """Undo or finish an interrupted `quorum apply`, or set its journal aside if that is damaged."""
    if set_aside := set_damaged_apply_aside(repository, with_copies=with_copies):
        report(str(set_aside))
    if begun := recover_apply(repository):
        report(f"{begun.step.action} was interrupted; {'finished' if begun.stage == 'clean' else 'undone'}")
