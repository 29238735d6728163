# SPDX-License-Identifier: Apache-2.0
"""Define the options of the runtime ``openai``."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec

from quorum.runtimes.lookup_options import Int64
from quorum.runtimes.option_base import Count, Existing, Gib, Hint, OptionError, Options
from quorum.runtimes.remote.address import address_problem, is_plain
from quorum.runtimes.remote.key import KeyProblem, read_key

_ADDRESS = Hint("an address", "write it as in https://api.example.com/v1")
_NO_KEY = (
    "a key must not stand in this file; put it into an environment variable, and name that by `api_key_env`,"
    " or into a file, and name that by `api_key_file`"
)
_CREDENTIAL = re.compile("(?i)key|secret|authorization|password|credential|bearer|headers")
_TOKEN = re.compile("(?i)token")
"""Credentials, or the tokens of an LLM: fields such as ``min_tokens`` hold numbers."""
_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")
_OWN = frozenset(
    {
        *("model", "messages", "stream", "stream_options", "temperature", "seed", "max_tokens"),
        *("max_completion_tokens", "response_format", "logprobs", "n"),
    }
)


class OpenAiOptions(Options, frozen=True, kw_only=True):
    """Options of the runtime ``openai``. A key is never one of them, only where to find it.

    Attributes:
        base_url: Address of an OpenAI-compatible API, up to what comes before ``/chat/completions``.
        model: Name by which it serves the model.
        replicas: Addresses of further endpoints with the same model and the same key.
        api_key_env: Environment variable with the key; None, with ``api_key_file`` None too: no key is sent.
        api_key_file: File with the key alone, such as a mounted secret. It is read again after a refusal.
        insecure_http: Whether the key may go to another machine by HTTP, where others can read it.
        ca_file: PEM file of the authorities that sign the endpoint's certificate; None: those of the system.
        proxy: HTTP proxy to tunnel through; those that the environment names are not used.
        max_tokens: Longest answer.
        seed: Of the sampling, which has temperature 0.
        guided: Whether to ask for answers that keep to the JSON schema of the catalogue.
        scores: Whether to ask for log-probabilities, which votes have as their scores.
        requests_per_minute: Most requests in any minute, per endpoint; more wait. None: no limit.
        tokens_per_minute: Most tokens, of prompts and answers, likewise.
        max_wait_s: Longest wait, in seconds, for limits; the member abstains from more as overloaded.
        max_concurrency: Most requests in flight, per endpoint; how many is learned from its answers.
        hedge: Whether a question that takes longer than 95 of 100 is asked of another endpoint as well.
        extra_body: Further fields of the request, such as ``{reasoning_effort: minimal}``; none whose name
            may be that of a key.
        memory_limit_gib: As in :class:`quorum.runtimes.options.IsolatedOptions`.
    """

    runtime: ClassVar[str] = "openai"
    served_by: ClassVar[str] = "quorum.runtimes.openai:OpenAiRuntime"
    extra: ClassVar[str] = "openai"
    refused: ClassVar[Mapping[str, str]] = dict.fromkeys(("api_key", "key", "token", "headers"), _NO_KEY)

    base_url: Annotated[str, _ADDRESS]
    model: Annotated[str, Hint("text", "the name by which the endpoint serves the model")]
    replicas: Annotated[tuple[str, ...], Hint("a list of addresses")] = ()
    api_key_env: str | None = None
    api_key_file: Annotated[str | None, Hint("a path", "name a file that holds the key alone")] = None
    insecure_http: bool = False
    ca_file: Annotated[
        str | None, Existing(fix="name the PEM file of the authority that signed the certificate")
    ] = None
    proxy: Annotated[str | None, Hint("an address", "write it as in http://proxy:3128")] = None
    max_tokens: Count = 256
    seed: Int64 = 0
    guided: bool = True
    scores: bool = True
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    max_wait_s: Annotated[
        float, msgspec.Meta(ge=0, le=86_400), Hint("a number of seconds", "it lies between 0 and a day")
    ] = 10.0
    max_concurrency: Annotated[int, msgspec.Meta(ge=1, le=1024), Hint("a whole number from 1 to 1024")] = 64
    hedge: bool = False
    extra_body: Annotated[dict[str, Any], Hint("a mapping of fields of the request")] = msgspec.field(
        default_factory=dict
    )
    memory_limit_gib: Gib | None = None

    def __post_init__(self) -> None:
        # Before anything repeats a value: it may be a key in the wrong place.
        if self.api_key_env is not None and not (
            isinstance(self.api_key_env, str) and _NAME.fullmatch(self.api_key_env)
        ):
            raise OptionError(
                "api_key_env", "it is not the name of an environment variable: A-Z, 0-9 and _ (not the key)"
            )
        super().__post_init__()
        if self.api_key_env is not None and self.api_key_file is not None:
            raise OptionError("api_key_file", "the key has two places; give `api_key_env` or `api_key_file`")
        for key, urls in (("base_url", (self.base_url,)), ("replicas", self.replicas)):
            for url in urls:
                self._check_address(key, url)
        if self.proxy is not None:
            self._check_proxy(self.proxy)
        if self.hedge and not self.replicas:
            raise OptionError("hedge", "there is no other endpoint to ask; name one in `replicas`")
        self._check_body()

    @property
    def packages(self) -> tuple[str, ...]:
        """The HTTP client."""
        return ("httpx2",)

    @property
    def isolated(self) -> bool:
        """True: what a stranger's server sends is read in a process of its own."""
        return True

    @property
    def has_key(self) -> bool:
        """Whether requests carry a key."""
        return self.api_key_env is not None or self.api_key_file is not None

    @property
    def base_urls(self) -> tuple[str, ...]:
        """The addresses of all endpoints, each once."""
        return tuple(dict.fromkeys([self.base_url, *self.replicas]))

    def missing_at_start(self, root: Path) -> list[tuple[str, str]]:
        """The key, where it cannot be read: pairs of option and problem with its fix."""
        try:
            read_key(self.api_key_env, root / self.api_key_file if self.api_key_file else None)
        except KeyProblem as problem:
            return [(problem.option, str(problem))]
        return []

    def _check_address(self, key: str, url: str) -> None:
        if problem := address_problem(url):
            raise OptionError(key, problem)
        if self.has_key and is_plain(url) and not self.insecure_http:
            raise OptionError(
                key,
                "by http:// others on the way can read the key; write https://, or set `insecure_http: true`"
                " where the network is trusted",
            )

    def _check_body(self) -> None:
        try:
            json.dumps(self.extra_body, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise OptionError(
                "extra_body", "a value is none that JSON has, such as .nan or a date; write dates in quotes"
            ) from error
        for name in self.extra_body:
            if name in _OWN:
                raise OptionError("extra_body", f"{name!r} cannot be set here; leave it out")
        for name, value in _fields(self.extra_body):
            if _CREDENTIAL.search(name) or (_TOKEN.search(name) and _has_text(value)):
                raise OptionError("extra_body", f"{name!r} cannot be set here; leave it out: {_NO_KEY}")

    def _check_proxy(self, proxy: str) -> None:
        if problem := address_problem(proxy, "the address of a proxy, as in http://proxy:3128"):
            raise OptionError("proxy", problem)
        if any(url.startswith("http://") for url in self.base_urls):
            raise OptionError(
                "proxy", "it reads what goes to an http:// address; write https://, or leave it out"
            )


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    """The names of all fields, at any depth, with what they hold."""
    if isinstance(value, dict):
        yield from ((str(name), inner) for name, inner in value.items())
    for one in _inner(value):
        yield from _fields(one)


def _has_text(value: Any) -> bool:
    return isinstance(value, str) or any(map(_has_text, _inner(value)))


def _inner(value: Any) -> Collection[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple) else ()
