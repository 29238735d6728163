# SPDX-License-Identifier: Apache-2.0
"""One loaded model of the ``hf`` runtime with its batches, shared by the members on it."""

from __future__ import annotations

import threading
from typing import ClassVar

from quorum.runtimes.base import RuntimeSettings
from quorum.runtimes.hf_continuous import ContinuousBatcher
from quorum.runtimes.hf_dynamic import DynamicBatcher
from quorum.runtimes.hf_guide import Guide
from quorum.runtimes.hf_model import Loaded, adapters_of, load
from quorum.runtimes.options import HfOptions

_Key = tuple[str, tuple[str | None, ...]]


class Host:
    """A checkpoint of this process with the adapters of all its members, and the batcher of their questions.

    Attributes:
        guide: Guides the answers of members that want it; None if none does.
    """

    _open: ClassVar[dict[_Key, Host]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, settings: RuntimeSettings[HfOptions], key: _Key | None) -> None:
        self._key, self._members = key, 1
        self.loaded = load(settings)
        self.guide = _guide(settings, self.loaded)
        batcher: type[ContinuousBatcher | DynamicBatcher] = (
            ContinuousBatcher if settings.options.batching == "continuous" else DynamicBatcher
        )
        self.batcher = batcher(settings, self.loaded, self.guide)

    @classmethod
    def of(cls, settings: RuntimeSettings[HfOptions]) -> Host:
        """The model of a member, loaded for the first of those that share it."""
        if not settings.peers:
            return cls(settings, None)
        key = str(settings.root / settings.options.model), adapters_of(settings)
        with cls._lock:
            host = cls._open.get(key)
            if host is None:
                host = cls._open[key] = cls(settings, key)
            else:
                host._members += 1
            return host

    def release(self) -> None:
        """Remove a member; with the last, stop generating."""
        with self._lock:
            self._members -= 1
            if self._members:
                return
            if self._key is not None:
                del self._open[self._key]
        self.batcher.close()


def _guide(settings: RuntimeSettings[HfOptions], loaded: Loaded) -> Guide | None:
    if not any(own.guided for own in (settings.options, *settings.peers)):
        return None
    try:
        return Guide(loaded, settings.options.threads)
    except Exception as error:
        raise settings.error(
            f"the tokenizer of {settings.options.model!r} cannot guide decoding ({error}); set"
            " `guided: false`, answers are then parsed as they come"
        ) from error
