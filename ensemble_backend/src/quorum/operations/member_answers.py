# SPDX-License-Identifier: Apache-2.0
"""Name members that were tuned for other attributes than those of the catalogue."""

from __future__ import annotations

from collections.abc import Iterator

from quorum.decision.catalogue_change import OUTSIDE, named
from quorum.deployment.schema import Deployment, MemberSpec
from quorum.runtimes.encoder_folder import answerable, read_encoder
from quorum.runtimes.options import EncoderOptions
from quorum.runtimes.tuned_prompt import read_tuned_prompts
from quorum.tasks.catalogue import Catalogue


def foreign_members(deployment: Deployment) -> tuple[str, ...]:
    """Say which members were tuned for no attribute of the catalogue, one line each.

    Such an encoder has no vote on any of them, and an LLM adapter answers what it never learned. Whether
    their folders fit otherwise is not checked here.
    """
    catalogue = deployment.catalogue()
    if not catalogue.attributes:
        return ()
    return tuple(
        f"{deployment.path}: members[{i}]: {line}"
        for i, member in enumerate(deployment.members)
        for line in _foreign(deployment, member, catalogue)
    )


def _foreign(deployment: Deployment, member: MemberSpec, catalogue: Catalogue) -> Iterator[str]:
    options, root = member.options, deployment.root
    asked = f"`attributes` has {named(catalogue.attributes)}"
    if isinstance(options, EncoderOptions):
        folder = root / options.model
        tuned = answerable(read_encoder(folder), catalogue, folder)
        if OUTSIDE not in tuned and tuned.isdisjoint(catalogue.attributes):
            yield (
                f"{member.name!r} answers {named(tuned)} only, and {asked}: it votes on none of these; list "
                "what it answers as it was at tuning time, or take the member out"
            )
        return
    for adapter in options.adapters_used:
        if not (name := adapter or options.llm):
            continue
        prompts = read_tuned_prompts(root / name)
        learned = (
            {attribute for prompt in prompts.asked for attribute in prompt.attributes} if prompts else set()
        )
        answers = {
            attribute
            for attribute in catalogue.attributes
            if options.adapter_by_attribute.get(attribute, options.usual_adapter) == adapter
        }
        if learned and answers and answers.isdisjoint(learned):
            yield (
                f"{member.name!r} was tuned ({name}) for {named(learned)} only, and {asked}: it is asked "
                "what it never learned; list its attributes as they were, or take the member out"
            )
