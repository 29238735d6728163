# SPDX-License-Identifier: Apache-2.0
"""Define the section ``retriever`` of ``deploy.yaml``: how keyphrases are recommended."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from quorum.deployment.strict import Strict, error_at
from quorum.runtimes.onnx_network import Engine, Precision

_ABLE: dict[str, Engine] = {"bf16": "openvino", "int8": "onnxruntime"}
Share = Annotated[float, Field(ge=0, le=1)]


class RetrieverSpec(Strict):
    """The retriever's settings; its versions are published and listed in ``state.json``.

    Attributes:
        engine: What computes the encoder: ``openvino``, or ``onnxruntime`` where that is installed.
        precision: ``f32`` gives the same answers on every CPU and in every batch; ``bf16`` (``openvino``) is
            faster on CPUs that have it; ``int8`` (``onnxruntime``) quantises the matrices at start; ``auto``:
            ``f32``, or FP16 on a GPU.
        threads: CPU threads of the encoder; 0: one per core.
        max_batch: Items encoded at once.
        max_in_flight: Items inside a version; more are refused as overloaded.
        blocklist: File of keyphrases that are never recommended, one a line; read when a version is loaded.
        near_identical: Cosine from which two recommended keyphrases count as the same, and only the better
            one is recommended; None: only those that differ in spelling alone.
        heldout: Judged pairs that no student is trained on; without them versions are not compared.
        max_less_agreement: How much less than the running version a new one may agree with them.
        max_less_recall: How much less of their keyphrases it may find.
        triton: Whether the encoder is a Triton model of its own, on a GPU by TensorRT; unverified on GPU.
    """

    engine: Engine = "openvino"
    precision: Precision = "auto"
    threads: Annotated[int, Field(ge=0, le=1024)] = 1
    max_batch: Annotated[int, Field(ge=1, le=4096)] = 32
    max_in_flight: Annotated[int, Field(ge=1, le=65_536)] = 256
    blocklist: str | None = None
    near_identical: Annotated[float, Field(gt=0, le=1)] | None = None
    heldout: str | None = None
    max_less_agreement: Share = 0.02
    max_less_recall: Share = 0.02
    triton: bool = False

    @model_validator(mode="after")
    def _computable(self) -> RetrieverSpec:
        able = _ABLE.get(self.precision, self.engine)
        if self.triton and self.precision == "int8":
            raise error_at("precision", "int8 is not for a GPU; use auto (FP16), f32 or bf16")
        if not self.triton and able != self.engine:
            raise error_at(
                "precision", f"{self.engine} has no {self.precision}; use f32, or `engine: {able}`"
            )
        return self

    def find_missing(self, root: Path) -> list[tuple[str, str]]:
        """Find missing files that the section names: pairs of key and problem with its fix."""
        fixes = {
            "blocklist": "write keyphrases to leave out into it, one a line",
            "heldout": "`quorum judge` writes judged pairs",
        }
        named = {key: name for key in fixes if (name := getattr(self, key)) is not None}
        return [
            (key, f"{root / name} is no file; {fixes[key]}, or take `{key}` out")
            for key, name in named.items()
            if not (root / name).is_file()
        ]
