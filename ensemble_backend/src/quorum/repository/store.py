# SPDX-License-Identifier: Apache-2.0
"""The repository on disk: versions of the weights and the version that each channel is pinned to.

Files are replaced by rename and version folders appear complete: Triton never sees half of anything.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from quorum.decision import weights as weights_file
from quorum.decision.weights import Weights, WeightsError
from quorum.repository.configs import canary_share_of, parse_config, vote_step
from quorum_contract import CHANNELS, GATE, VOTE
from quorum_contract.errors import QuorumError

CONFIG_FILE = "config.pbtxt"
WEIGHTS_FILE = "weights.json"
# Versions and pins are read from these files, so rendering alone cannot bring them back.
_MEND = "restore it from version control, or remove it, run `quorum render` and promote a version again"


class RepositoryError(QuorumError, RuntimeError):
    """The model repository is not as expected; the message names the file and the mend."""

    code = "REPOSITORY_INVALID"


class Store:
    """Reads and writes one model repository.

    Args:
        path: The repository folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def versions_on_disk(self) -> list[int]:
        """Versions of the weights that have a folder, ascending."""
        folder = self.path / VOTE
        return sorted(int(p.name) for p in folder.glob("*") if p.is_dir() and p.name.isdecimal())

    def versions_listed(self) -> list[int]:
        """Versions that the vote model's configuration makes Triton load, ascending."""
        config = self.config(VOTE)
        return sorted(config.version_policy.specific.versions) if config else []

    def pins(self) -> dict[str, int]:
        """Channel -> version of the weights that it answers with; channels not rendered yet are absent."""
        pins = {}
        for channel in CHANNELS:
            config = self.config(channel)
            if config:
                step = vote_step(config)
                if step is None:
                    path = self.path / channel / CONFIG_FILE
                    raise RepositoryError(f"{path}: no step asks {VOTE!r}; {_MEND}")
                pins[channel] = step.model_version
        return pins

    def damaged(self) -> dict[int, str]:
        """Listed versions whose weights cannot be read, with the reason: Triton would not start with them."""
        found = {}
        for version in self.versions_listed():
            try:
                self.weights(version)
            except WeightsError as error:
                found[version] = str(error)
        return found

    def canary_share(self) -> float:
        """Share of the products that callers are asked to send to the canary channel, in [0, 1]."""
        gate = self.config(GATE)
        return canary_share_of(gate) if gate else 0.0

    def weights(self, version: int) -> Weights:
        """The weights of a version.

        Raises:
            WeightsError: Missing or broken.
        """
        return weights_file.load(self.weights_path(version))

    def weights_path(self, version: int) -> Path:
        """Where a version's weights lie."""
        return self.path / VOTE / str(version) / WEIGHTS_FILE

    def add_version(self, version: int, weights: Weights) -> None:
        """Write a version folder; it appears complete or not at all.

        Raises:
            RepositoryError: The version exists already.
        """
        folder = self.path / VOTE / str(version)
        if folder.exists():
            raise RepositoryError(f"{folder} exists; versions are never overwritten, publish a new one")
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Beside the model folders, so that the rename stays on one file system and out of Triton's sight.
        staging = Path(tempfile.mkdtemp(prefix=".publish-", dir=self.path))
        try:
            write_atomic(staging / WEIGHTS_FILE, weights_file.dumps(weights))
            staging.chmod(0o755)
            staging.rename(folder)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        sync_folder(folder.parent)

    def remove_version(self, version: int) -> None:
        """Delete a version folder, in one step as seen from outside."""
        folder = self.path / VOTE / str(version)
        if folder.exists():
            bin_ = Path(tempfile.mkdtemp(prefix=".retired-", dir=self.path))
            folder.rename(bin_ / folder.name)
            shutil.rmtree(bin_)

    def touch(self, model: str) -> None:
        """Make the files of a model's versions look new, so that its next load starts it afresh."""
        for file in (self.path / model).glob("[0-9]*/*"):
            file.touch()

    def write_config(self, model: str, text: str) -> None:
        """Replace a model's configuration."""
        write_atomic(self.path / model / CONFIG_FILE, text)

    def read_config(self, model: str) -> str | None:
        """A model's configuration as text; ``None`` when there is none."""
        try:
            return (self.path / model / CONFIG_FILE).read_text("utf-8")
        except FileNotFoundError:
            return None

    def config(self, model: str) -> Any:
        """A model's configuration; ``None`` when there is none.

        Raises:
            RepositoryError: It cannot be read.
        """
        text = self.read_config(model)
        try:
            return parse_config(text) if text is not None else None
        except text_format.ParseError as error:
            path = self.path / model / CONFIG_FILE
            raise RepositoryError(f"{path}: not a Triton configuration ({error}); {_MEND}") from error


def write_atomic(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file that is, at every moment, the old one or the new one; ``mode`` holds from the start."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename inside ``folder`` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
