# SPDX-License-Identifier: Apache-2.0
"""Run LLMs on CPU by OpenVINO GenAI: in-flight batching, guided decoding, one thread that steps the batch."""

from __future__ import annotations

import itertools
import json
import logging
import re
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import openvino_genai as genai

from quorum.runtimes.base import Done, Generated, Question, Reply, RuntimeSettings, Usage
from quorum.runtimes.control_tokens import ControlTokens
from quorum.runtimes.grammar import answer_pattern
from quorum.runtimes.offsets import TokenEnds
from quorum.runtimes.openvino_adapter import read_adapter
from quorum.runtimes.options import OpenVinoOptions
from quorum_contract import Status

logger = logging.getLogger(__name__)

# A step holds the interpreter lock throughout, so steps are kept short.
_TOKENS_PER_STEP = 256
_SEQUENCES = 64
_RETRY_S = 1.0
_JOINING = {
    "Parameter",
    "Const",
    "Convert",
    "VocabDecoder",
    "FuzeRagged",
    "UTF8Validate",
    "StringTensorPack",
    "Result",
}


class _Live(NamedTuple):
    """A question in the pipeline; dropping the handle would cancel it."""

    question: Question
    done: Done
    handle: Any
    prompt_tokens: int


class OpenVinoRuntime:
    """Serves a model folder, by :class:`quorum.runtimes.options.OpenVinoOptions`."""

    def __init__(self, settings: RuntimeSettings[OpenVinoOptions]) -> None:
        settings.check_files()
        self._member, self._options = settings.member, settings.options
        self._folder = settings.root / settings.options.model
        self._adapter = read_adapter(settings)
        try:
            self._pipeline: Any = self._open()
        except RuntimeError as error:
            if self._adapter is None:
                raise
            raise settings.error(
                f"lora: the adapter in {settings.options.lora} does not fit the model in {self._folder}"
                f" ({error}); name the base of its training, or another adapter"
            ) from error
        self._tokenizer = self._pipeline.get_tokenizer()
        self._ends = TokenEnds(lambda lists: list(self._tokenizer.decode(lists)))
        self._joins = self._options.scores and _joins_bytes(self._folder / "openvino_detokenizer.xml")
        self._retry_at = 0.0
        chat = self._options.chat
        self._chat = bool(self._tokenizer.chat_template) if chat is None else chat
        self._controls = self._read_controls()
        self._numbers = itertools.count()
        self._inbox: deque[tuple[Question, Done]] = deque()
        self._live: list[_Live] = []
        self._wake = threading.Condition()
        self._running = True
        self._thread = threading.Thread(target=self._run, name="quorum-openvino", daemon=True)
        self._thread.start()

    def submit(self, question: Question, done: Done) -> None:
        """Hand the question to the stepping thread."""
        with self._wake:
            self._inbox.append((question, done))
            self._wake.notify()

    def close(self) -> None:
        """Stop stepping; questions in flight are dropped."""
        with self._wake:
            self._running = False
            self._wake.notify()
        self._thread.join()
        self._live.clear()
        self._pipeline = None

    def _open(self) -> Any:
        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks = self._options.kv_cache_blocks
        scheduler.max_num_seqs = _SEQUENCES
        scheduler.max_num_batched_tokens = _TOKENS_PER_STEP
        scheduler.dynamic_split_fuse = True
        scheduler.enable_prefix_caching = self._options.prefix_caching
        properties: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": self._options.precision,
            "INFERENCE_NUM_THREADS": self._options.threads,
            "NUM_STREAMS": 1,
        }
        if self._options.precision == "f32":
            # With an 8-bit cache an answer depends on the other questions in flight.
            properties["KV_CACHE_PRECISION"] = "f32"
        if self._adapter is not None:
            properties["adapters"] = self._adapter
        return genai.ContinuousBatchingPipeline(str(self._folder), scheduler, "CPU", properties)

    def _read_controls(self) -> ControlTokens:
        tokenizer = self._tokenizer
        added = _added_tokens(self._folder)
        if not added:
            logger.warning(
                "member %s: the tokenizer in %s names no added tokens, so only common control tokens are"
                " kept out of prompts; put the checkpoint's tokenizer.json there",
                self._member,
                self._folder,
            )
        special = tokenizer.get_bos_token(), tokenizer.get_eos_token(), tokenizer.get_pad_token()
        return ControlTokens(special, added, tokenizer.chat_template if self._chat else None)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._inbox or self._live or not self._running)
                if not self._running:
                    return
                arrived = [self._inbox.popleft() for _ in range(len(self._inbox))]
            for question, done in arrived:
                self._admit(question, done)
            self._step()

    def _admit(self, question: Question, done: Done) -> None:
        if question.expired:
            done(Status.TIMEOUT)
            return
        try:
            self._reopen()
            prompt = self._controls.remove(question.prompt)
            if self._chat:
                prompt = self._tokenizer.apply_chat_template([{"role": "user", "content": prompt}], True)
            tokens = self._tokenizer.encode(prompt).input_ids
            handle = self._pipeline.add_request(
                next(self._numbers), tokens, self._generation(question.schema)
            )
        except Exception:
            logger.exception("member %s: a question was not accepted", self._member)
            done(Status.ERROR)
            return
        self._live.append(_Live(question, done, handle, tokens.shape[1]))

    def _reopen(self) -> None:
        """Replace a failed pipeline, at most once a second."""
        if self._pipeline is not None:
            return
        if time.monotonic() < self._retry_at:
            raise RuntimeError("the pipeline failed and is not open again yet")
        self._retry_at = time.monotonic() + _RETRY_S
        self._pipeline = self._open()
        self._tokenizer = self._pipeline.get_tokenizer()

    def _generation(self, schema: str) -> Any:
        config = genai.GenerationConfig(
            max_new_tokens=self._options.max_new_tokens, do_sample=False, apply_chat_template=False
        )
        config.eos_token_id = self._tokenizer.get_eos_token_id()
        # 1: of the token that is chosen, before the grammar's mask.
        config.logprobs = int(self._options.scores)
        config.structured_output_config = genai.StructuredOutputConfig(regex=answer_pattern(schema))
        return config

    def _step(self) -> None:
        try:
            if self._live:
                self._pipeline.step()
        except Exception:
            # A failed pipeline never recovers; its questions abstain and the next one opens another.
            logger.exception("member %s: the pipeline failed", self._member)
            failed, self._live, self._pipeline = self._live, [], None
            for live in failed:
                live.done(Status.ERROR)
            return
        self._live = [live for live in self._live if not self._settle(live)]

    def _settle(self, live: _Live) -> bool:
        """Settle a question that is finished, failed or expired; returns whether it did."""
        reply: Reply = Status.ERROR
        try:
            status = live.handle.get_status()
            if status == genai.GenerationStatus.RUNNING:
                if not live.question.expired:
                    return False
                live.handle.cancel()
                reply = Status.TIMEOUT
            elif status == genai.GenerationStatus.FINISHED:
                reply = self._generated(live.handle.read_all()[0], live.prompt_tokens)
            else:
                logger.warning(
                    "member %s: a question does not fit the KV cache (kv_cache_blocks)", self._member
                )
        except Exception:
            logger.exception("member %s: an answer could not be read", self._member)
        live.done(reply)
        return True

    def _generated(self, output: Any, prompt_tokens: int) -> Generated:
        tokens = output.generated_ids
        # How much of a prompt was cached it does not say.
        usage = Usage(prompt_tokens, len(tokens))
        if not self._options.scores:
            return Generated(self._tokenizer.decode(tokens), usage=usage)
        # The detokenizer takes longer than all else that is done per answer.
        joined = self._ends.join(tokens) if self._joins else None
        text = self._tokenizer.decode(tokens) if joined is None else joined
        return Generated(text, self._ends.find(tokens, text), output.generated_log_probs, usage)


def _joins_bytes(detokenizer: Path) -> bool:
    """Whether a detokenizer only looks up the bytes of each token and joins them."""
    kinds = {layer.get("type") for layer in ET.parse(detokenizer).iter("layer")}  # noqa: S314
    return kinds <= _JOINING


def _added_tokens(folder: Path) -> set[str]:
    """The spellings that a built tokenizer never splits; empty: not known."""
    spellings = _split_tokens(folder / "openvino_tokenizer.xml")
    if spellings:
        return spellings
    # Tokenizers with SentencePiece inside have no such layer.
    try:
        added = json.loads((folder / "tokenizer.json").read_bytes())["added_tokens"]
        return {str(token["content"]) for token in added}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()


def _split_tokens(tokenizer: Path) -> set[str]:
    """The alternatives in the pattern of the layer ``SpecialTokensSplit``."""
    layers, edges = {}, []
    for element in ET.parse(tokenizer).iter():  # noqa: S314
        if element.tag == "layer":
            layers[element.get("id")] = element
        elif element.tag == "edge":
            edges.append((layers[element.get("from-layer")], layers[element.get("to-layer")].get("type")))
    spellings: set[str] = set()
    for layer, to in edges:
        data = layer.find("data")
        if to == "SpecialTokensSplit" and layer.get("type") == "Const" and data is not None:
            start, size = int(data.get("offset", 0)), int(data.get("size", 0))
            pattern = (
                tokenizer.with_suffix(".bin").read_bytes()[start : start + size].decode(errors="replace")
            )
            spellings |= _literals(pattern)
    return spellings


def _literals(pattern: str) -> set[str]:
    r"""The alternatives of a pattern such as ``(\<a\>|\<b\>)|(?:\s*)(c)``."""
    spelled = re.sub(
        r"\\(.)|[()|]", lambda found: found[1] or "\0", pattern.replace(r"(?:\s*)", ""), flags=re.S
    )
    return set(spelled.split("\0")) - {""}
