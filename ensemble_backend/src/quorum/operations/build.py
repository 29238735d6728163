# SPDX-License-Identifier: Apache-2.0
"""Build what the members of a deployment serve: compiled engines and quantised checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from quorum.build.checkpoint import BuildError
from quorum.build.compile import compile_engine
from quorum.build.manifest import EngineManifest
from quorum.build.quantise import quantise_steps
from quorum.build.shapes import split_quantised
from quorum.build.trtllm import BuildSteps, Step, Tools, engine_build_steps
from quorum.deployment.schema import Deployment, MemberSpec
from quorum.records import Record
from quorum.runtimes.options import EncoderOptions, EngineOptions, OpenVinoOptions, TensorRtLlmOptions

_NEEDS_NO_BUILD = {
    "tensorrt_llm": "the LLM API loads the checkpoint itself",
    "hf": "Transformers loads the checkpoint itself",
    "replay": "it answers from recorded votes",
    "catalogue": "it looks values up in filled products",
}


@dataclass(frozen=True, slots=True)
class MemberBuild(Record):
    """One member's build, planned or done.

    Attributes:
        steps: The commands; None where there is nothing to build.
        manifest: Manifest of the result; None where nothing was built.
        reason: Why there is nothing to build; empty where there is.
    """

    member: str
    steps: BuildSteps | None = None
    manifest: EngineManifest | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: the manifest, else the commands, else the reason for none."""
        if self.manifest:
            return asdict(self.manifest)
        if self.steps:
            commands = [list(step.command) for step in self.steps.steps]
            return {"commands": commands, "engine": str(self.steps.engine)}
        return {"commands": [], "reason": self.reason}


def member_builds(
    deployment: Deployment, name: str | None = None, tools: Tools | None = None
) -> list[MemberBuild]:
    """Lay out the builds of a deployment's members, or of the named one; nothing is run.

    ``tools`` are paths of TensorRT-LLM's programs; None: those of the Triton container.

    Raises:
        BuildError: There is no such member, or its checkpoint cannot be built.
    """
    if name is not None and name not in deployment.member_names:
        have = ", ".join(deployment.member_names)
        raise BuildError(f"{deployment.path}: no member {name!r}; it has {have}")
    chosen = [member for member in deployment.members if name in (None, member.name)]
    return [_build_of(deployment, member, tools or Tools()) for member in chosen]


def build_member(
    build: MemberBuild,
    tools: Tools | None = None,
    *,
    on_step: Callable[[int, Step, bool], None] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> MemberBuild:
    """Run a planned build, resuming an earlier one; without a plan, nothing happens.

    Args:
        build: Of :func:`member_builds`.
        tools: The tools that it was planned for.
        on_step: Called with each step's number, the step, and whether it was done already.
        on_line: Called with every line that a program prints.

    Raises:
        BuildError: Something is missing, does not fit, or a program failed.
    """
    if build.steps is None:
        return build
    manifest = compile_engine(build.steps, tools or Tools(), on_step=on_step, on_line=on_line)
    return MemberBuild(build.member, build.steps, manifest)


def _build_of(deployment: Deployment, member: MemberSpec, tools: Tools) -> MemberBuild:
    name, options = member.name, member.options
    steps, reason = None, _NEEDS_NO_BUILD.get(member.runtime, "its runtime needs none")
    if isinstance(options, EngineOptions):
        steps = engine_build_steps(name, options, deployment.root, tools)
    elif isinstance(options, TensorRtLlmOptions):
        steps = quantise_steps(name, options, deployment.root, tools)
        target = deployment.root / options.model
        plain, method = split_quantised(target.name)
        if method and not target.is_dir():
            reason = (
                f"there is no {target.with_name(plain)} to make {options.model} of; fetch it, unless that is"
                " a Hugging Face id, which the LLM API loads itself"
            )
    elif isinstance(options, EncoderOptions):
        reason = f"tune it with `quorum tune`, into {options.model}"
    elif isinstance(options, OpenVinoOptions):
        reason = f"build its model with `quorum build CHECKPOINT {options.model}`"
    return MemberBuild(name, steps, reason="" if steps else reason)
