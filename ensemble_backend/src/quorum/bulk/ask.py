# SPDX-License-Identifier: Apache-2.0
"""Ask a running server about one text, or about many listings in order."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncIterator, Mapping, Sequence

from quorum.bulk.callbacks import Note, Progress, ignore
from quorum.bulk.listings import Listing
from quorum.bulk.outcomes import in_order
from quorum.deployment.schema import Deployment
from quorum.server.exposure import client_key
from quorum.server.runfile import endpoint_of
from quorum_client import AWAY_S, Answer, AsyncClient, Client, Extraction, Item, OnWait, Status, Tls
from quorum_contract import BULK, STABLE, Priority
from quorum_contract.errors import InvalidRequest, QuorumError
from quorum_contract.tensors import TEXT

_TIMEOUT_S = 60.0


class NoAttributesError(QuorumError, ValueError):
    """No attribute is named, and the catalogue is empty."""

    code = "NO_ATTRIBUTES"


class UnknownAttributeError(QuorumError, ValueError):
    """An attribute is not in the catalogue, and open ones are not wanted; the message has a near name."""

    code = "ATTRIBUTE_UNKNOWN"


def attributes_of(
    deployment: Deployment, names: Sequence[str] | None, note: Note = ignore, *, is_open: bool = True
) -> list[str]:
    """The attributes to ask for: those named, else the whole catalogue.

    Args:
        deployment: The deployment that is served.
        names: What the caller names.
        note: Takes a remark on each name outside the catalogue, which is asked as an open one.
        is_open: Whether such names are asked; else they are refused, but for those of the default question.

    Raises:
        NoAttributesError: None is named and the catalogue is empty.
        UnknownAttributeError: A name is not in the catalogue.
    """
    known = deployment.attributes
    wanted = list(known) if names is None else list(names)
    if not wanted:
        raise NoAttributesError("no attributes: name them with --attributes a,b, or list them in deploy.yaml")
    for name in wanted:
        if name in known or deployment.default is not None:
            continue
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"listed are: {', '.join(known) or 'none'}"
        if not is_open:
            raise UnknownAttributeError(
                f"{name!r} is not in the catalogue of {deployment.path}; {hint} To ask it all the same, as an"
                " open one, add --open"
            )
        note(f"{name!r} is not in the catalogue of {deployment.path}, so it is asked as an open one; {hint}")
    return wanted


def fields_of(deployment: Deployment, names: Sequence[str]) -> tuple[str, ...]:
    """The named fields that the text for these attributes is made of; empty: their text is plain.

    Raises:
        NoAttributesError: Attributes of other fields, which one text cannot serve, are asked for together.
    """
    known = deployment.attributes
    wanted = {tuple(known[name].fields): name for name in names if name in known}
    if len(wanted) > 1:
        (first, a), (second, b), *_ = wanted.items()
        raise NoAttributesError(
            f"{a!r} is asked of {_of(first)}, {b!r} of {_of(second)}; ask for them separately, with "
            "--attributes"
        )
    return next(iter(wanted), ())


def _of(fields: Sequence[str]) -> str:
    return f"the fields {', '.join(fields)}" if fields else "a plain text"


def ask(
    deployment: Deployment | None,
    text: str | Mapping[str, str],
    attributes: Sequence[str] | None = None,
    *,
    category: str = "",
    channel: str = STABLE,
    url: str | None = None,
    timeout_s: float = 30.0,
    note: Note = ignore,
    lazy: bool = False,
    tls: bool | Tls = False,
) -> Extraction:
    """Ask about one product.

    Args:
        deployment: The deployment that is served; None: that of ``url``, of which nothing else is known here.
        text: Product title or description, or named fields, for attributes with ``fields``.
        attributes: Attributes to ask for; None: the whole catalogue.
        category: Product category; may be empty.
        channel: Ensemble to ask.
        url: ``host:port`` of the server; None: the local server, else the one that ``deploy.yaml`` names.
        timeout_s: How long to wait for the answer.
        note: Takes remarks, see :func:`attributes_of`.
        lazy: Ask members in rows, see :meth:`quorum_client.Client.extract`.
        tls: As of :class:`quorum_client.Client`.

    Returns:
        One answer per attribute, with every member's vote.

    Raises:
        quorum_client.QuorumError: No answer.
        NoAttributesError: There is nothing to ask for, or attributes are made of different fields.
        ValueError: Neither a deployment nor a ``url``.
        quorum_client.InvalidRequest: A field that no attribute asked for has; ``lazy`` without lazy channels.
    """
    if deployment is not None:
        check_lazy(deployment, lazy)
        names = attributes_of(deployment, attributes, note)
        _check_fields(text, fields_of(deployment, names))
        target = url or endpoint_of(deployment).grpc_url
    elif url is None:
        raise ValueError("name the server by its url, or give its deployment")
    elif not attributes:
        raise NoAttributesError(
            f"no attributes: name them with --attributes a,b, as no deploy.yaml here says what {url} knows"
        )
    else:
        names, target = list(attributes), url
    with Client(target, channel=channel, timeout_s=timeout_s, key=client_key(), tls=tls) as client:
        return client.extract(text, names, category=category, lazy=lazy)


def _check_fields(text: str | Mapping[str, str], fields: Sequence[str]) -> None:
    unknown = [] if isinstance(text, str) else [name for name in text if name not in fields]
    if unknown:
        have = f"they are {', '.join(fields)}" if fields else "there are none: give a plain text"
        raise InvalidRequest(
            f"{TEXT}: field {unknown[0]!r} is none of the `fields` of the attributes asked for; {have}"
        )


def check_lazy(deployment: Deployment, lazy: bool) -> None:
    """Raise InvalidRequest where a lazy answer is wanted of a deployment without lazy channels."""
    if lazy and deployment.lazy is None:
        raise InvalidRequest(
            f"lazy: {deployment.path} has no section `lazy`; add `lazy: {{}}`, run `quorum render` and start "
            "the server again"
        )


def why_withheld(deployment: Deployment, answer: Answer) -> str:
    """What the answer to an attribute lacked, of what ``vote`` of the deployment demands."""
    vote = deployment.vote
    answered = sum(found.status is Status.ANSWERED for found in answer.votes)
    if answered < vote.min_members:
        return f"{answered} of {len(answer.votes)} members answered, `vote.min_members` is {vote.min_members}"
    if vote.min_weight:
        return (
            f"the {answered} of {len(answer.votes)} members that answered have less of the weight than"
            f" `vote.min_weight`, {vote.min_weight:g}"
        )
    return f"{answered} of {len(answer.votes)} members answered, and `vote` of the server demands more"


async def ask_in_order(
    client: AsyncClient,
    listings: Sequence[Listing],
    attributes: Sequence[str],
    concurrency: int,
    priority: Priority = BULK,
    *,
    away_s: float = AWAY_S,
    on_wait: OnWait | None = None,
    lazy: bool = False,
) -> AsyncIterator[tuple[Listing, Extraction | QuorumError]]:
    """Ask about each listing, at most ``concurrency`` at a time; yields answers in order.

    The arguments are those of :meth:`quorum_client.AsyncClient.extract_many`.
    """
    items = (Item(listing.text, attributes, listing.category, listing.product) for listing in listings)
    results = client.extract_many(
        items,
        concurrency=concurrency,
        errors="return",
        priority=priority,
        away_s=away_s,
        on_wait=on_wait,
        lazy=lazy,
    )
    async for answered in in_order(listings, results):
        yield answered


def ask_all(
    url: str,
    channel: str,
    listings: Sequence[Listing],
    attributes: Sequence[str],
    concurrency: int,
    progress: Progress = ignore,
) -> list[Extraction]:
    """Ask about all listings and return the answers in order; raises the first error."""

    async def run() -> list[Extraction]:
        results: list[Extraction] = []
        progress(0, len(listings))
        async with AsyncClient(url, channel=channel, timeout_s=_TIMEOUT_S, key=client_key()) as client:
            async for _, result in ask_in_order(client, listings, attributes, concurrency):
                if isinstance(result, QuorumError):
                    raise result
                results.append(result)
                progress(len(results), len(listings))
        return results

    return asyncio.run(run())
