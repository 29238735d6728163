# SPDX-License-Identifier: Apache-2.0
"""A retriever as something that is versioned: how a version is copied, checked, and judged before a publish.

What is published is the folder that ``quorum index`` wrote. It is copied: its files could change afterwards.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from quorum.evaluation.retriever_guard import Encoders, RetrieverComparison, compare_retrievers
from quorum.repository.retriever_config import settings_of_retriever
from quorum.repository.state import RetrieverState
from quorum.retrieval.encode import TextEncoder
from quorum.retrieval.judged import JudgedError, check_question
from quorum.retrieval.judged_files import read_judged
from quorum.retrieval.manifest import RETRIEVER_FILE, ManifestError, check_retriever, read_retriever
from quorum.retrieval.version_check import check_vectors
from quorum.rollout.kind import Kind
from quorum.rollout.lock import RolloutError, WorseVersion
from quorum.runtimes.engine_names import retriever_encoder


class RetrieverKind(Kind[Path]):
    """Versions of ``quorum_retriever``; a content is a folder."""

    # The share is read from `state.json`.
    part, share_in = RetrieverState, ()
    noun, content, flag = "the retriever", "folder", " --retriever"

    def hash_of(self, version: int) -> str:
        """As :meth:`Kind.hash_of`: every file is read; raises ManifestError."""
        return _sound_hash(self.source(version))

    def content_hash(self, content: Path) -> str:
        """As :meth:`Kind.content_hash`."""
        return _sound_hash(content)

    def inner(self, version: int) -> tuple[str, ...]:
        """The version's encoder where Triton computes it."""
        return (retriever_encoder(version),) if settings_of_retriever(self.spec).triton else ()

    def add(self, version: int, content: Path) -> None:
        """Copy the files of a version, no others, and check the copies."""

        def copy(folder: Path) -> None:
            for name in (*read_retriever(content).names, RETRIEVER_FILE):
                shutil.copyfile(content / name, folder / name)
                with (folder / name).open("rb") as file:
                    os.fsync(file.fileno())
            check_retriever(folder)

        self.store.add_folder(self.model, version, copy)

    def source(self, version: int) -> Path:
        """The version's folder."""
        return self.store.version_folder(self.model, version)

    def check(self, content: Path) -> None:
        """Raise ManifestError for damaged files, or vectors that are not those of the keyphrases."""
        _sound_hash(content)
        check_vectors(content, read_retriever(content))

    def unfit(self, version: int) -> str:
        """Never: a version whose files are sound can be pinned."""
        return ""

    def keeping(self, content: Path, names: Sequence[str]) -> Path:
        """The folder; RolloutError where attributes are named, which a retriever does not have."""
        if names:
            raise RolloutError("--keep is for attributes of weights; a retriever is published as it is")
        return content

    def compare(self, content: Path) -> RetrieverComparison | None:
        """Compare with the running version on ``retriever.heldout``, with both encoders, on this machine.

        Returns:
            ``None`` if the deployment names no judged pairs, or nothing is published yet.

        Raises:
            RolloutError: The pairs cannot be used.
            ManifestError: An encoder cannot be opened here.
        """
        rules, served = settings_of_retriever(self.spec), self.served()
        if rules.heldout is None or served is None:
            return None
        path = self.spec.root / rules.heldout
        running = self.source(served.pins[self.stable])
        if _sound_hash(running) == _sound_hash(content):
            return None
        limits = rules.max_less_agreement, rules.max_less_recall

        def opened(folder: Path) -> Encoders:
            # With int8 each batch is scaled as a whole.
            most = rules.max_batch
            items = TextEncoder(folder, rules.engine, rules.precision, rules.threads, max_batch=most)
            if rules.precision in ("auto", "f32"):
                return Encoders(items, items)
            return Encoders(items, TextEncoder(folder, rules.engine, threads=rules.threads))

        asked = self.spec.catalogue().default
        try:
            judged = read_judged(path)
            check_question(path, judged.provenance, asked.hash if asked else None, "`default` of deploy.yaml")
            return compare_retrievers(content, running, judged, limits, opened, self.note)
        except JudgedError as error:
            raise RolloutError(f"retriever.heldout: {error}") from error
        except ValueError as error:
            if isinstance(error, ManifestError):
                raise
            raise RolloutError(f"retriever.heldout {path}: {error}") from error

    def refuse_worse(self, comparison: RetrieverComparison) -> None:
        """Raise WorseVersion where agreement or recall falls by more than ``retriever`` allows."""
        if comparison.warning:
            raise WorseVersion(
                f"not published: {comparison.warning} ({comparison}); train on more judged pairs, or --force "
                "it with a reason"
            )


def _sound_hash(folder: Path) -> str:
    """The content hash of a folder whose files are those that its manifest names.

    Raises:
        ManifestError: They are not.
    """
    try:
        files = sorted(folder.iterdir())
        # Of a link itself: it is no file of a version, whatever it leads to.
        stamps = tuple((path.name, (s := path.lstat()).st_size, s.st_mtime_ns, s.st_ino) for path in files)
    except OSError as error:
        raise ManifestError(
            f"{folder} cannot be read ({error}); make it again with `quorum index`"
        ) from error
    return _hash_of_files(folder, stamps)


@functools.lru_cache(maxsize=64)
def _hash_of_files(folder: Path, stamps: tuple[tuple[str, int, int, int], ...]) -> str:
    # Remembered for files that did not change: a command asks several times, and may have gigabytes to read.
    found, _ = check_retriever(folder)
    return found.content_hash
