# SPDX-License-Identifier: Apache-2.0
"""Read and write a model repository on disk: its state, the versions of its models, the configurations.

Files are replaced by rename and version folders appear complete: Triton never sees partial files.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from quorum.decision import weights as weights_file
from quorum.decision.weights import WEIGHTS_FILE, Weights
from quorum.files import sync_folder, write_atomic
from quorum.repository.state import STATE_FILE, State, dump_state, read_state
from quorum.repository.state import RepositoryError as RepositoryError
from quorum_contract import VOTE
from quorum_contract.errors import QuorumError

CONFIG_FILE = "config.pbtxt"
PENDING_FILE = "rollout.pending.json"
KEEP_FILE = "1/.gitkeep"
"""Triton wants a version folder in every model; git keeps no empty ones."""


class Store:
    """Reads and writes the model repository in the folder ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state_path = path / STATE_FILE
        self.pending_path = path / PENDING_FILE

    def versions_on_disk(self, model: str = VOTE) -> list[int]:
        """Versions that have a folder, of the weights or of another versioned model, ascending."""
        folder = self.path / model
        return sorted(int(p.name) for p in folder.glob("*") if p.is_dir() and p.name.isdecimal())

    def next_version(self, loaded: Iterable[int], model: str = VOTE) -> int:
        """The number of the next version, neither on disk nor ``loaded``; numbers are never reused."""
        return max([*self.versions_on_disk(model), *loaded], default=0) + 1

    def state(self) -> State:
        """The content of ``state.json``; raises RepositoryError as :func:`read_state` does."""
        return read_state(self.state_path)

    def state_if_any(self) -> State | None:
        """The state; ``None`` for a repository that has none yet, or is missing."""
        return self.state() if self.state_path.exists() else None

    def write_state(self, state: State) -> None:
        """Replace ``state.json``; the caller updates Triton's files."""
        _replace(self.state_path, dump_state(state))

    def weights(self, version: int) -> Weights:
        """The weights of a version; raises WeightsError where they are missing or broken."""
        return weights_file.load(self.weights_path(version))

    def weights_path(self, version: int) -> Path:
        """Path of a version's weights."""
        return self.version_folder(VOTE, version) / WEIGHTS_FILE

    def add_version(self, version: int, weights: Weights) -> None:
        """Write a version of the weights, as :meth:`add_folder`."""
        text = weights_file.dumps(weights)
        self.add_folder(VOTE, version, lambda folder: write_atomic(folder / WEIGHTS_FILE, text))

    def version_folder(self, model: str, version: int) -> Path:
        """The folder of a version of a model."""
        return self.path / model / str(version)

    def add_folder(self, model: str, version: int, write: Callable[[Path], None]) -> None:
        """Make a version folder; it appears complete or not at all. One that exists is a RepositoryError.

        Args:
            model: A versioned model.
            version: Its new version.
            write: Writes the files into a folder, and syncs each.
        """
        folder = self.version_folder(model, version)
        if folder.exists():
            raise RepositoryError(f"{folder} exists; versions are never overwritten, publish a new one")
        folder.parent.mkdir(parents=True, exist_ok=True)
        # On the same file system for the rename, but outside model folders, where Triton would see it.
        staging = Path(tempfile.mkdtemp(prefix=".publish-", dir=self.path))
        try:
            write(staging)
            staging.chmod(0o755)
            sync_folder(staging)
            staging.rename(folder)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        sync_folder(folder.parent)

    def remove_version(self, version: int, model: str = VOTE) -> None:
        """Delete a version folder atomically."""
        folder = self.version_folder(model, version)
        if folder.exists():
            bin_ = Path(tempfile.mkdtemp(prefix=".retired-", dir=self.path))
            folder.rename(bin_ / folder.name)
            shutil.rmtree(bin_)

    def touch(self, model: str) -> None:
        """Update the times of a model's version files, so that its next load starts a new process."""
        for file in (self.path / model).glob("[0-9]*/*"):
            # A rollout may remove a version meanwhile.
            with suppress(FileNotFoundError):
                os.utime(file)

    def write_config(self, model: str, text: str) -> None:
        """Replace a model's configuration."""
        _replace(self.path / model / CONFIG_FILE, text)

    def remove_config(self, model: str) -> None:
        """Remove what rendering wrote of a model; version folders with files stay."""
        (self.path / model / CONFIG_FILE).unlink(missing_ok=True)
        (self.path / model / KEEP_FILE).unlink(missing_ok=True)
        with suppress(OSError):
            # Only what is empty.
            (self.path / model / KEEP_FILE).parent.rmdir()
            (self.path / model).rmdir()

    def read_config(self, model: str) -> str | None:
        """A model's configuration as text; ``None`` when there is none."""
        return read_text(self.path / model / CONFIG_FILE)


def refused(versions: Iterable[int], check: Callable[[int], object]) -> dict[int, str]:
    """Versions that fail a check by a QuorumError, with the reason."""
    reasons = {}
    for version in versions:
        try:
            check(version)
        except QuorumError as error:
            reasons[version] = str(error)
    return reasons


def read_text(path: Path) -> str | None:
    """The content of a file; ``None`` when there is none, or something that would never end, as a pipe."""
    if path.is_fifo():
        return None
    try:
        return path.read_text("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _replace(path: Path, text: str) -> None:
    # Skip the write of equal content: the disk may be full.
    if read_text(path) != text:
        write_atomic(path, text)
