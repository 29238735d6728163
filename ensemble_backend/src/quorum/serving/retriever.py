# SPDX-License-Identifier: Apache-2.0
"""Recommend keyphrases for items by this version's encoder and index; the one step of its channels.

It checks what it reads and refuses what is too much, as the gate does, and batches the items in flight on a
thread of its own: ``execute`` returns at once. An error is the response to its own request only.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import triton_python_backend_utils as pb_utils

from quorum.retrieval.encode import TextEncoder
from quorum.retrieval.manifest import ManifestError, check_retriever
from quorum.retrieval.recommend import Asked, Recommended, Recommender, RecommendFailed
from quorum.runtimes.encoder_batch import Batcher, Job
from quorum.serving.admission import own_admission
from quorum.serving.deadlines import Deadlines
from quorum.serving.log import limit_repeats, log_as
from quorum.serving.places import Places
from quorum.serving.regions import make_private
from quorum.serving.requests import deadline_of, priority_of, refuse, single
from quorum.serving.retriever_encoder import open_encoder
from quorum.serving.share import CanaryShare
from quorum.serving.tensors import answer, refusal, root_of, settings_of, tensor, text_tensor
from quorum_contract import BULK, CANARY_SHARE, CATEGORY, RETRIEVER, TEXT, Status
from quorum_contract.checks import check_limit, check_min_score, decode_category, decode_text
from quorum_contract.errors import InvalidRequest, Overloaded, Unavailable
from quorum_contract.tensors import KEYPHRASE_SCORES, KEYPHRASES, LIMIT, MIN_SCORE, RETRIEVER_VERSION

logger = logging.getLogger(__name__)

_DRAIN_S, _POLL_S = 30.0, 0.01


class _Waiting(NamedTuple):
    """An item, and what sends its answer."""

    asked: Asked
    reply: _Reply


class TritonPythonModel:
    """``quorum_retriever``: an item's text in; keyphrases, their scores and the version out."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Check and open this version's files.

        As a version of the vote, a damaged one loads and refuses every request until the server has answered
        a request: at its start it would end the whole server. Later its load fails, and the versions that are
        loaded go on serving.
        """
        make_private()
        limit_repeats()
        log_as(RETRIEVER)
        settings = settings_of(args)
        self._limit = int(settings["max_in_flight"])
        self._bulk_limit = int(settings["max_bulk_in_flight"])
        self._timeouts_s = float(settings["timeout_s"]), float(settings["max_timeout_s"])
        version, repository = int(args["model_version"]), Path(args["model_repository"]).resolve()
        self._version = np.array([version], np.int64)
        self._share = CanaryShare(repository.parent)
        self._admission = own_admission()
        self._places = Places()
        self._deadlines = Deadlines()
        self._batcher: Batcher[_Waiting, Recommended | None] | None = None
        self._damage: ManifestError | None = None
        try:
            self._open(repository / str(version), root_of(args), settings)
        # Any exception: with one that is not caught, no version would load.
        except Exception as error:
            if self._admission.has_answered:
                raise
            self._damage = ManifestError(f"version {version} of the retriever is damaged: {error}")
            logger.exception("retriever: a damaged version is loaded without files")

    def _open(self, folder: Path, root: Path, settings: Mapping[str, Any]) -> None:
        manifest, _ = check_retriever(folder)
        blocklist = settings["blocklist"]
        self._recommender = Recommender.open(
            folder, manifest, None if blocklist is None else root / blocklist, settings["near_identical"]
        )
        self._encoder: TextEncoder = open_encoder(folder, settings, self._admission.has_answered)
        if not settings["triton"]:
            # The first computation allocates; and a network that cannot compute is refused now.
            self._recommender.recommend([Asked("?", "", 1, -1.0)], self._encoder.items)
        self._batcher = Batcher(
            f"retriever version {folder.name}",
            int(settings["max_batch"]),
            self._recommend,
            lambda item: len(item.asked.text),
            None,
        )

    def _recommend(self, items: Sequence[_Waiting]) -> list[Recommended | None]:
        """Answer each item as soon as its keyphrases are found, not when the last of a batch has its own."""
        found: list[Recommended | None] = [None] * len(items)
        asked = [item.asked for item in items]

        def is_over(at: int) -> bool:
            return items[at].reply.expired

        for at, keyphrases in self._recommender.each(asked, self._encoder.items, is_over):
            found[at] = keyphrases
            items[at].reply([keyphrases])
        return found

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Take each request, or refuse it; an item that is taken is answered by a response sender."""
        return [self._take(request) for request in requests]

    def finalize(self) -> None:
        """Answer what is inside, and stop."""
        until = time.monotonic() + _DRAIN_S
        while self._places.inside and time.monotonic() < until:
            time.sleep(_POLL_S)
        if self._batcher is not None:
            self._batcher.close()
        self._deadlines.close()

    def _take(self, request: Any) -> Any:
        if self._damage or self._batcher is None:
            damage = self._damage or ManifestError("the version is not open")
            return refusal(damage, pb_utils.TritonError.INTERNAL)
        # As in the gate, a full server spends no time on reading what it refuses.
        if self._admission.is_closed:
            return refuse(Unavailable("the server is stopping; ask another one"))
        leave = self._places.enter(self._limit)
        if leave is None:
            return refuse(_full(self._limit, "max_in_flight", ""))
        reply = _Reply(self, leave)
        try:
            if priority_of(request.parameters()) == BULK and self._places.inside > self._bulk_limit:
                raise _full(self._bulk_limit, "max_bulk_in_flight", ", so no bulk is admitted")
            item, deadline = _checked(request), deadline_of(request, *self._timeouts_s)
            reply.expect(request.get_response_sender())
        except Exception as error:
            leave()
            known = error if isinstance(error, InvalidRequest | Unavailable) else None
            return refuse(known or InvalidRequest(f"unreadable request: {error}"))
        reply.at_deadline(self._deadlines, deadline)
        self._batcher.submit(Job(reply, reply, {0: _Waiting(item, reply)}, [None]))
        return None

    def response(self, found: Recommended) -> Any:
        """The response with these keyphrases."""
        return answer(
            text_tensor(KEYPHRASES, found.keyphrases),
            tensor(KEYPHRASE_SCORES, found.scores, np.float32),
            pb_utils.Tensor(RETRIEVER_VERSION, self._version),
            tensor(CANARY_SHARE, [self._share.read()], np.float64),
        )


class _Reply:
    """The response to one request, sent once: with the keyphrases, or with the reason why there are none."""

    def __init__(self, model: TritonPythonModel, leave: Callable[[], None]) -> None:
        self._model, self._leave = model, leave
        self._sender: Any = None
        self._lock = threading.Lock()
        self._take_back: Callable[[], None] = _nothing

    def expect(self, sender: Any) -> None:
        """Send the response by this sender."""
        self._sender = sender

    def at_deadline(self, deadlines: Deadlines, deadline_ns: int) -> None:
        """Refuse the request at its deadline, whether or not its turn has come."""
        self._take_back = deadlines.add(deadline_ns, lambda: self(Status.TIMEOUT))

    @property
    def expired(self) -> bool:
        """Whether the response was sent."""
        return self._sender is None

    def __call__(self, found: list[Recommended | None] | Status) -> None:
        """Send the response; only the first call counts, and none raises."""
        with self._lock:
            sender, self._sender = self._sender, None
        if sender is None:
            return
        self._take_back()
        try:
            try:
                response = self._response(found)
            except Exception as error:
                logger.exception("retriever: a response could not be built")
                response = refusal(RecommendFailed(str(error)), pb_utils.TritonError.INTERNAL)
            sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        except Exception:
            logger.exception("retriever: a response could not be sent")
        finally:
            self._leave()

    def _response(self, found: list[Recommended | None] | Status) -> Any:
        if found is Status.TIMEOUT:
            return refuse(
                Overloaded("the request's time was up before its turn; retry later, or allow more time")
            )
        if isinstance(found, Status) or found[0] is None:
            message = "the item could not be encoded or searched; see the server's log"
            return refusal(RecommendFailed(message), pb_utils.TritonError.INTERNAL)
        return self._model.response(found[0])


def _nothing() -> None:
    """The deadline of a request that has none yet."""


def _full(limit: int, setting: str, kind: str) -> Overloaded:
    section = "retriever" if setting == "max_in_flight" else "gate"
    return Overloaded(
        f"{limit} items or more are being answered{kind}; retry later, or raise {section}.{setting}"
    )


def _checked(request: Any) -> Asked:
    inputs = {tensor.name(): tensor.as_numpy().ravel().tolist() for tensor in request.inputs()}
    return Asked(
        decode_text(single(inputs, TEXT)),
        decode_category(single(inputs, CATEGORY)),
        check_limit(single(inputs, LIMIT)),
        check_min_score(single(inputs, MIN_SCORE)),
    )
