# SPDX-License-Identifier: Apache-2.0
"""Define the options of the runtime ``encoder``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from quorum.extras import how_to_install
from quorum.runtimes.option_base import CountOrZero, Existing, Hint, IsolatedOptions, OptionError


class EncoderOptions(IsolatedOptions, frozen=True, kw_only=True):
    """Options of the runtime ``encoder``, with those of :class:`IsolatedOptions`.

    Attributes:
        model: Folder that ``quorum tune`` made.
        engine: What computes: ``openvino``, or ``onnxruntime`` where that is installed.
        precision: ``f32`` for the same answers on every CPU and in every batch; ``bf16`` (``openvino``) is
            faster on CPUs that have it; ``int8`` (``onnxruntime``) quantises the matrices at start, and a
            vote depends on the others in its batch; ``auto``: ``f32``, or FP16 on a GPU.
        threads: CPU threads; 0: one per core.
        max_batch: Rows computed at once; a question has one row per attribute.
        max_tokens: Tokens of a row, the rest of its text is not read; None: as in tuning, the most.
        scores: Whether votes come with the log-probability of their values.
        triton: Whether the network is a Triton model of its own, on a GPU by TensorRT; unverified on GPU.
            The member then only tokenises, decodes and abstains, and runs in its step.
    """

    runtime: ClassVar[str] = "encoder"
    served_by: ClassVar[str] = "quorum.runtimes.encoder:EncoderRuntime"

    model: Annotated[
        str,
        Existing(
            fix="make it with `quorum tune`",
            holds=("model.onnx", "tokenizer.json", "encoder.json"),
        ),
    ]
    engine: Literal["openvino", "onnxruntime"] = "openvino"
    precision: Literal["auto", "f32", "bf16", "int8"] = "auto"
    threads: CountOrZero = 1
    max_batch: Annotated[int, msgspec.Meta(ge=1, le=4096), Hint("a whole number from 1 to 4096")] = 32
    max_tokens: (
        Annotated[int, msgspec.Meta(ge=8, le=4096), Hint("a number of tokens", "it is at least 8")] | None
    ) = None
    scores: bool = True
    triton: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        able = {"bf16": "openvino", "int8": "onnxruntime"}.get(self.precision, self.engine)
        if self.triton and self.precision == "int8":
            raise OptionError("precision", "int8 is not for a GPU; use auto (FP16), f32 or bf16")
        if not self.triton and able != self.engine:
            raise OptionError(
                "precision", f"{self.engine} has no {self.precision}; use f32, or `engine: {able}`"
            )
        if self.triton and self.memory_limit_gib is not None:
            raise OptionError(
                "memory_limit_gib", "with `triton: true` there is no worker process; leave it out"
            )

    @property
    def packages(self) -> tuple[str, ...]:
        """The tokenizer, and the engine unless that is Triton's."""
        return ("tokenizers",) if self.triton else ("tokenizers", self.engine)

    @property
    def install(self) -> str:
        """How to get the engine and the tokenizer."""
        return f"run {how_to_install(self.engine)}"

    @property
    def isolated(self) -> bool:
        """False where the network is a Triton model of its own."""
        return not self.triton
