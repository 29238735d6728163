# SPDX-License-Identifier: Apache-2.0
"""``quorum ask | extract``: questions to the running server."""

from __future__ import annotations

import asyncio
import difflib
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from quorum.cli.console import (
    DEPLOY,
    CommandError,
    DeployOption,
    JsonOption,
    friendly,
    note,
    out,
    print_json,
    progress,
    spec_of,
)
from quorum.cli.listings import (
    ID_COLUMNS,
    CsvSink,
    JsonlSink,
    Listing,
    Sink,
    VotesSink,
    as_json,
    parse_share,
    read_listings,
)
from quorum.cli.traffic import ask_in_order
from quorum.deployment.schema import Deployment
from quorum.server.runfile import endpoint_of
from quorum.tasks.catalogue import Catalogue
from quorum_client import (
    SERVED,
    AsyncClient,
    ChannelNotFound,
    Client,
    Extraction,
    Overloaded,
    QuorumError,
    Unavailable,
)
from quorum_contract import STABLE

FAILED = "failed"
_GIVE_UP_AFTER = 20
_INTERRUPTED = 130

AttributesOption = Annotated[
    str | None, typer.Option("--attributes", "-a", help="Comma-separated; default: the whole catalogue.")
]
ChannelOption = Annotated[str, typer.Option(help="quorum or quorum_canary.")]
UrlOption = Annotated[
    str | None, typer.Option(help="host:port; default: the local server, else deploy.yaml.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(ask)
    app.command()(extract)


@friendly
def ask(
    text: Annotated[str, typer.Argument(help="Product title or description.")],
    attributes: AttributesOption = None,
    category: Annotated[str, typer.Option(help="Product category.")] = "",
    channel: ChannelOption = STABLE,
    url: UrlOption = None,
    timeout: Annotated[float, typer.Option(help="Seconds.")] = 30.0,
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Ask about one product; shows the answer and every member's vote.

    Example: `quorum ask "Velmora trail running shoes, navy, size 42, for men" --attributes color,size`
    """
    spec = spec_of(deploy)
    with Client(url or endpoint_of(spec).grpc_url, channel=channel, timeout_s=timeout) as client:
        result = client.extract(text, names_of(spec, attributes), category=category)
    if json:
        print_json(as_json(result))
        return
    members = [vote.member for vote in result.answers[0].votes]
    table = Table("attribute", "answer", "confidence", *members)
    for answer in result.answers:
        # As Text: values may hold brackets, which a string would lose as markup.
        table.add_row(
            Text(answer.attribute),
            _cell(answer.value, "nobody answered", "bold"),
            f"{answer.confidence:.0%}",
            *(_cell(vote.value, vote.status.name.lower()) for vote in answer.votes),
        )
    out.print(table)
    note(f"weights version {result.weights_version}, {result.latency_s * 1e3:.0f} ms")


def _cell(value: str | None, reason: str, style: str = "") -> Text:
    return Text(f"({reason})", "dim") if value is None else Text(value, style)


@friendly
def extract(
    file: Annotated[
        Path, typer.Argument(help="CSV or JSONL with a text column (title, text, input or name).")
    ],
    output: Annotated[Path | None, typer.Option("--out", "-o", help="CSV or JSONL to write.")] = None,
    votes: Annotated[Path | None, typer.Option(help="Also write every vote, for `quorum learn`.")] = None,
    attributes: AttributesOption = None,
    text_column: Annotated[str | None, typer.Option(help="Column with the product text.")] = None,
    id_column: Annotated[
        str | None,
        typer.Option(
            help="Column with the product's id, which canary routing goes by and votes are joined by;"
            f" default: {', '.join(ID_COLUMNS)}, else the row number."
        ),
    ] = None,
    channel: ChannelOption = STABLE,
    canary_share: Annotated[
        str | None,
        typer.Option(
            help="Route such a share of the products to the canary: 5%, or `served` (what the server says)."
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 16,
    url: UrlOption = None,
    timeout: Annotated[float, typer.Option(help="Seconds per listing.")] = 60.0,
    deploy: DeployOption = DEPLOY,
    json: JsonOption = False,
) -> None:
    """Ask about every listing of a file. Answers are written as they come; a listing that fails is marked.

    It stops when 20 listings in a row find nobody to answer. Exit code 1 when a listing failed, 130 after
    Ctrl-C; what was answered is written.

    Example: `quorum extract listings.csv --out answers.csv --votes votes.jsonl`
    """
    if output is None and votes is None:
        raise CommandError("nothing to write: name --out FILE (CSV or JSONL), --votes FILE, or both")
    _check_distinct(file, output, votes)
    spec = spec_of(deploy)
    share: float | Literal["served"] | None = None
    if canary_share is not None:
        share = SERVED if canary_share == SERVED else parse_share(canary_share)
    listings = read_listings(file, text_column, id_column)
    _say_numbered(file, listings)
    wanted = names_of(spec, attributes)
    target = url or endpoint_of(spec).grpc_url
    # Before the files are opened: what an earlier run wrote there stays if nobody is there to answer.
    with Client(target, channel=channel) as client:
        if not client.is_ready():
            raise Unavailable(f"channel {channel!r} at {target} does not answer; start it with `quorum up`")
    by_channel: Counter[str] = Counter()
    ended: QuorumError | KeyboardInterrupt | None = None
    with ExitStack() as files:
        sinks = _sinks(files, output, votes, listings, wanted, spec.catalogue())
        asker = AsyncClient(target, channel=channel, timeout_s=timeout, canary_share=share)
        try:
            ended = asyncio.run(_extract_all(asker, listings, wanted, concurrency, sinks, by_channel))
        except KeyboardInterrupt as interrupt:
            ended = interrupt
    failed = by_channel.pop(FAILED, 0)
    answered = by_channel.total()
    left = len(listings) - answered - failed
    if json:
        counts = {"answered": answered, "failed": failed, "left": left}
        done = counts | {"out": _str(output), "votes": _str(votes)}
        print_json(done if share is None else done | {"channels": dict(by_channel)})
    else:
        if share is not None:
            note("answered by " + ", ".join(f"{name}: {count}" for name, count in sorted(by_channel.items())))
        written = " and ".join(str(path) for path in (output, votes) if path)
        note(f"{answered} answered, {failed} failed{f', {left} left' if left else ''}; wrote {written}")
    if ended is not None:
        note(_why_ended(ended, answered + failed))
    if isinstance(ended, KeyboardInterrupt):
        raise typer.Exit(_INTERRUPTED)
    if failed:
        raise typer.Exit(1)


def _why_ended(ended: QuorumError | KeyboardInterrupt, written: int) -> str:
    """Why not all rows were asked about, and how to go on; ``written``: rows answered or marked as failed."""
    if isinstance(ended, KeyboardInterrupt):
        return f"interrupted; to go on, extract the rows from {written + 1} on into another file"
    begin = written - _GIVE_UP_AFTER + 1
    return (
        f"stopped: {_GIVE_UP_AFTER} rows in a row found nobody to answer, the last one: {ended}. Once"
        f" `quorum status` says that the channel answers, extract the rows from {begin} on into another"
        " file"
    )


def names_of(spec: Deployment, attributes: str | None) -> list[str]:
    """The attributes to ask for.

    Raises:
        CommandError: None named, and the catalogue is empty.
    """
    names = (
        [name.strip() for name in attributes.split(",") if name.strip()]
        if attributes
        else list(spec.attributes)
    )
    if not names:
        raise CommandError("no attributes: name them with --attributes a,b, or list them in deploy.yaml")
    for name in names:
        if name not in spec.attributes:
            close = difflib.get_close_matches(name, spec.attributes, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"listed are: {', '.join(spec.attributes)}"
            note(f"{name!r} is not in the catalogue of {spec.path}, so it is asked as an open one; {hint}")
    return names


def _check_distinct(file: Path, output: Path | None, votes: Path | None) -> None:
    """Refuse to write over the input, or two results into one file."""
    for option, path, others in (("--out", output, [file]), ("--votes", votes, [file, output])):
        if path is not None and any(other and path.resolve() == other.resolve() for other in others):
            raise CommandError(f"{option} {path}: that file is read or written already; name another")


def _say_numbered(file: Path, listings: Sequence[Listing]) -> None:
    numbered = sum(listing.numbered for listing in listings)
    if numbered:
        note(
            f"{file}: {numbered} of {len(listings)} rows have no id, so they are numbered (row-1, row-2, ...)"
            " and cannot be joined with other files; name the column of the id with --id-column"
        )


def _sinks(
    files: ExitStack,
    output: Path | None,
    votes: Path | None,
    listings: Sequence[Listing],
    wanted: Sequence[str],
    catalogue: Catalogue,
) -> list[Sink]:
    sinks: list[Sink] = []
    try:
        if output is not None:
            if output.suffix not in (".csv", ".jsonl"):
                raise CommandError(
                    f"--out {output}: cannot tell the format from {output.suffix!r}; use .csv or .jsonl"
                )
            opened = files.enter_context(output.open("w", encoding="utf-8", newline=""))
            as_csv = output.suffix == ".csv"
            sinks.append(CsvSink(opened, list(listings[0].row), wanted) if as_csv else JsonlSink(opened))
        if votes is not None:
            sinks.append(VotesSink(files.enter_context(votes.open("w", encoding="utf-8")), catalogue))
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}") from error
    return sinks


async def _extract_all(
    client: AsyncClient,
    listings: Sequence[Listing],
    wanted: Sequence[str],
    concurrency: int,
    sinks: Sequence[Sink],
    by_channel: Counter[str],
) -> QuorumError | None:
    """Ask about all listings, unless nobody is there any more: then the error that said so last.

    ``by_channel`` counts how many were answered by which channel, or not at all (``FAILED``).
    """
    nobody = 0
    async with client:
        with progress() as bar:
            task = bar.add_task("extract", total=len(listings))
            async for listing, result in ask_in_order(client, listings, wanted, concurrency):
                for sink in sinks:
                    sink.write(listing, result)
                by_channel[_by(result)] += 1
                bar.advance(task)
                # A full server is there: what it refuses now it may take next.
                if not isinstance(result, ChannelNotFound | Unavailable) or isinstance(result, Overloaded):
                    nobody = 0
                    continue
                nobody += 1
                if nobody == _GIVE_UP_AFTER:
                    return result
    return None


def _by(result: Extraction | QuorumError) -> str:
    if isinstance(result, QuorumError):
        return FAILED
    return f"{result.channel} for {result.fallback_from}" if result.fallback_from else result.channel


def _str(path: Path | None) -> str | None:
    return str(path) if path else None
