# SPDX-License-Identifier: Apache-2.0
"""Lay out the quantisation of checkpoints for the LLM API: ``quantize.py --export_format hf``."""

from __future__ import annotations

from pathlib import Path

from quorum.build.checkpoint import TOKENIZER_FILES, BuildError
from quorum.build.shapes import read_shape, split_quantised
from quorum.build.trtllm import CALIBRATED, BuildSteps, Step, Tools
from quorum.runtimes.options import TensorRtLlmOptions

# The exporter writes configuration and weights; the tokenizer is copied from the source.
_TOKENIZER = (
    *TOKENIZER_FILES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
)


def quantise_steps(member: str, options: TensorRtLlmOptions, root: Path, tools: Tools) -> BuildSteps | None:
    """Lay out the command that makes a member's quantised checkpoint.

    A ``model`` like ``checkpoints/Qwen2.5-7B-Instruct-fp8`` is made from the folder without that ending.

    Returns:
        The command; ``None`` if the name has no such ending or the source folder does not exist.

    Raises:
        BuildError: The source cannot be quantised that way.
    """
    target = (root / options.model).resolve()
    plain, method = split_quantised(target.name)
    source = target.with_name(plain)
    if not method or not source.is_dir():
        return None
    if method not in CALIBRATED:
        known = ", ".join(CALIBRATED)
        raise BuildError(f"member {member}: {target}: {method} cannot be exported; use one of {known}")
    shape = read_shape(source)
    if shape.quantisation:
        raise BuildError(f"member {member}: {source} is quantised already ({shape.quantisation})")
    work = target.with_name(f"{target.name}.build")
    out = work / "engine"
    command = tools.quantise(
        method,
        {"--model_dir": str(source), "--output_dir": str(out), "--dtype": options.dtype},
        {"--export_format": "hf"},
    )
    step = Step(
        f"quantise to {method}", command, (out / "config.json",), shape.weight_bytes(quantisation=method)
    )
    return BuildSteps(
        member=member, checkpoint=source, engine=target, work=work, steps=(step,), carries=_TOKENIZER
    )
