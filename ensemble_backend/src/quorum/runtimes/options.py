# SPDX-License-Identifier: Apache-2.0
"""What each runtime can be told, readable without importing any of them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from quorum_contract.errors import QuorumError


class OptionError(QuorumError, ValueError):
    """A runtime cannot start with these options.

    Attributes:
        key: The option at fault.
    """

    code = "OPTION_INVALID"

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a runtime.

    Attributes:
        kind: Its type; ``Path`` for a text that names a file or folder.
        default: Its value where it is left out.
        required: Whether it may not be left out.
        choices: Its only values; empty: any of its type.
        holds: Files that the folder it names must hold.
        mend: How to make the file or folder it names.
    """

    kind: type
    default: Any = None
    required: bool = False
    choices: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    mend: str = ""


OPTIONS: Mapping[str, Mapping[str, Option]] = MappingProxyType(
    {
        "openvino": {
            "model": Option(
                Path,
                required=True,
                holds=("openvino_model.xml", "openvino_tokenizer.xml", "openvino_detokenizer.xml"),
                mend="make it with `quorum build CHECKPOINT OUT`",
            ),
            "threads": Option(int, 1),
            "max_new_tokens": Option(int, 256),
            "kv_cache_blocks": Option(int, 256),
            "precision": Option(str, "f32", choices=("f32", "bf16")),
            "chat": Option(bool),
            "prefix_caching": Option(bool, True),
        },
        "hf": {
            "model": Option(
                Path,
                required=True,
                holds=("config.json",),
                mend="save a checkpoint there: `hf download NAME --local-dir FOLDER`, or save_pretrained",
            ),
            "lora": Option(
                Path,
                holds=("adapter_config.json",),
                mend="save an adapter there with PEFT's save_pretrained",
            ),
            "device": Option(str, "auto"),
            "dtype": Option(str, "auto", choices=("auto", "float32", "bfloat16", "float16")),
            "threads": Option(int, 1),
            "max_new_tokens": Option(int, 256),
            "max_batch": Option(int, 32),
            "max_seq_len": Option(int),
            "batching": Option(str, "dynamic", choices=("dynamic", "continuous")),
            "kv_cache_tokens": Option(int, 16384),
            "guided": Option(bool, True),
            "chat": Option(bool),
        },
        "tensorrt_llm": {
            "model": Option(str, required=True, mend="a checkpoint's folder, or its Hugging Face id"),
            "dtype": Option(str, "auto"),
            "tensor_parallel": Option(int, 1),
            "gpus": Option(list),
            "lora": Option(dict),
            "kv_cache_fraction": Option(float),
            "kv_cache_gib": Option(float),
            "max_batch_size": Option(int, 256),
            "max_tokens": Option(int, 256),
            "max_num_tokens": Option(int, 8192),
            "max_seq_len": Option(int),
            "quantization": Option(str),
            "guided": Option(bool, True),
            "chat": Option(bool),
        },
        "engine": {
            "engine": Option(Path, required=True, mend="make it: `quorum build MEMBER --spec FILE`"),
            "tokenizer": Option(Path),
            "model": Option(str),
            "dtype": Option(str, "auto"),
            "tensor_parallel": Option(int, 1),
            "gpus": Option(list),
            "lora": Option(dict),
            "kv_cache_fraction": Option(float),
            "kv_cache_gib": Option(float),
            "max_batch_size": Option(int, 256),
            "max_tokens": Option(int, 256),
            "max_num_tokens": Option(int, 8192),
            "max_seq_len": Option(int),
            "quantization": Option(str),
            "guided": Option(bool, True),
            "chat": Option(bool),
        },
        "replay": {
            "votes": Option(Path, required=True, mend="record one with `quorum extract FILE --votes`"),
            "recorded_as": Option(str),
            "latency_ms": Option(float, 0.0),
            "latency_shape": Option(str, "exponential", choices=("exponential", "constant")),
            "fail_share": Option(float, 0.0),
            "hang_share": Option(float, 0.0),
            "seed": Option(int, 0),
        },
    }
)
"""Runtime -> option -> what it is."""

_WORDS: Mapping[type, str] = MappingProxyType(
    {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        Path: "a path",
        list: "a list",
        dict: "a mapping",
    }
)


def complete(runtime: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a runtime, checked, with defaults where they are left out.

    Files and folders are not looked at: :func:`find_missing` does.

    Args:
        runtime: A key of :data:`OPTIONS`.
        options: As in ``deploy.yaml``; an option that is null counts as left out.

    Raises:
        OptionError: An unknown option, one that is missing, or a value of the wrong kind.
    """
    known = OPTIONS[runtime]
    for key, value in options.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            mend = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}"
            raise OptionError(key, f"{runtime} has no option {key!r}; {mend}")
        _check(key, known[key], value)
    given = {key: value for key, value in options.items() if value is not None}
    for key, option in known.items():
        if option.required and key not in given:
            raise OptionError(
                key, f"{key!r} is missing, {runtime} needs it: {_WORDS[option.kind]}; {option.mend}"
            )
    done = {key: given.get(key, option.default) for key, option in known.items()}
    _check_gpus(done)
    _check_sizes(done)
    return done


SHARED = MappingProxyType({"tensorrt_llm": frozenset({"lora", "max_tokens", "guided", "chat"})})
"""Runtimes whose members share one LLM in memory -> the options in which such members may differ."""


def find_missing(runtime: str, options: Mapping[str, Any], root: Path) -> list[tuple[str, str]]:
    """Files and folders that the options name and that are not there.

    Args:
        runtime: A key of :data:`OPTIONS`.
        options: As :func:`complete` accepts them.
        root: Folder that relative paths start from.

    Returns:
        Options and what is wrong with each, with the mend.
    """
    found: list[tuple[str, str]] = []
    for key, option in OPTIONS[runtime].items():
        if option.kind is not Path or options.get(key) is None:
            continue
        path = root / str(options[key])
        absent = [name for name in option.holds if not (path / name).is_file()]
        if not path.exists():
            found.append((key, f"{path} does not exist; {option.mend}"))
        elif absent:
            found.append((key, f"{path} has no {absent[0]}; {option.mend}"))
    return found


def _check_gpus(options: Mapping[str, Any]) -> None:
    """Amounts and numbers of GPUs that would only fail, or be wrong, when the LLM loads."""
    parallel, gpus = options.get("tensor_parallel"), options.get("gpus")
    if parallel is not None and parallel < 1:
        raise OptionError("tensor_parallel", f"{parallel} is no number of GPUs; it is at least 1")
    if gpus is not None:
        if any(type(gpu) is not int or gpu < 0 for gpu in gpus) or len(set(gpus)) != len(gpus):
            raise OptionError("gpus", f"{gpus!r} is no list of different GPU numbers, as in [0, 1]")
        if len(gpus) != parallel:
            raise OptionError(
                "gpus",
                f"{gpus!r} are {len(gpus)} GPUs, but tensor_parallel is {parallel}; say the same in both",
            )
    fraction, gib = options.get("kv_cache_fraction"), options.get("kv_cache_gib")
    if fraction is not None and not 0 < fraction <= 1:
        raise OptionError("kv_cache_fraction", f"{fraction} is no share of a GPU; it lies between 0 and 1")
    if gib is not None and gib <= 0:
        raise OptionError("kv_cache_gib", f"{gib} is no amount of memory; it is more than 0")


def _check_sizes(options: Mapping[str, Any]) -> None:
    """Sizes that would let no question through."""
    for key in ("max_batch", "max_seq_len", "max_new_tokens", "kv_cache_tokens"):
        size = options.get(key)
        if size is not None and size < 1:
            raise OptionError(key, f"{size} lets no question through; it is at least 1")
    longest, answer = options.get("max_seq_len"), options.get("max_new_tokens")
    if longest is not None and answer is not None and longest <= answer:
        raise OptionError(
            "max_seq_len",
            f"{longest} tokens are for a question with its answer, and the answer alone may take {answer}"
            " (max_new_tokens); make one larger or the other smaller",
        )


def _check(key: str, option: Option, value: Any) -> None:
    if value is None:
        return
    accepted: tuple[type, ...] = {float: (int, float), Path: (str,)}.get(option.kind, (option.kind,))
    # YAML's true is an int to Python.
    if not isinstance(value, accepted) or (isinstance(value, bool) and option.kind is not bool):
        raise OptionError(key, f"{value!r} is not {_WORDS[option.kind]}")
    if option.choices and value not in option.choices:
        raise OptionError(key, f"{value!r} is unknown; use one of {', '.join(option.choices)}")
