# SPDX-License-Identifier: Apache-2.0
"""Ask about every row of files, as a job: scan the input, begin or go on, ask, join the outputs."""

from __future__ import annotations

import asyncio
from pathlib import Path, PurePosixPath

from quorum.bulk.ask import attributes_of, check_lazy
from quorum.bulk.callbacks import Note, ignore
from quorum.bulk.job import Job, client_of
from quorum.bulk.job_input import (
    Files,
    asked_of,
    check_apart,
    check_bad,
    column_names,
    find_input,
    keeping_no_stdin,
    listings_by,
    names_of,
)
from quorum.bulk.ledger import JobSpec, Ledger
from quorum.bulk.node_journal import take_over
from quorum.bulk.node_work import NodeSettings, for_nodes
from quorum.bulk.only_run import extract_only
from quorum.bulk.options import ExtractOptions
from quorum.bulk.outcomes import Ended
from quorum.bulk.outputs import Outputs, dead_letters_of, target_of
from quorum.bulk.patience import wait_for
from quorum.bulk.progress import OnProgress
from quorum.bulk.ray_engine import RayJob
from quorum.bulk.report import ExtractReport
from quorum.bulk.spent import money
from quorum.deployment.schema import Deployment
from quorum.server.probe import served_version
from quorum.server.runfile import endpoint_of
from quorum.votes.lazy import lazy_warning
from quorum_contract.checks import encode_attributes


def extract(
    deployment: Deployment,
    files: Files,
    options: ExtractOptions,
    *,
    progress: OnProgress = ignore,
    note: Note = ignore,
) -> ExtractReport:
    """Ask about every row of files, as a job; the same call goes on with it after whatever ended it.

    Every outcome is kept, in a folder of the job, as it comes. A part of the rows is written to the outputs
    once all of it has outcomes; outputs that are one file each are joined at the end. Every row is in them
    exactly once, with its answer or its error; rows that cannot be read are in the dead letters.

    Ctrl-C ends the run and is reported, not raised, once anything was asked.

    Args:
        deployment: The deployment that is served.
        files: Files, folders, patterns, addresses, or "-" for standard input; one, or several.
        options: See :class:`quorum.bulk.options.ExtractOptions`.
        progress: Called with the state of the job, some times a second.
        note: Called with remarks: what was detected, rows without an id, why the run waits.

    Raises:
        OutputError: An output cannot be written, or exists and is not of this job.
        ListingsError: The input cannot be read, or has changed since the job began.
        LedgerError: The job is of another command, or another process works on it; the message says what
            differs and what to do.
        NewWeights: Other weights decide than those before.
        TooManyBad: More rows are bad than ``max_bad`` allows; what was answered is kept.
        NoAttributesError: There is nothing to ask for.
        UnknownAttributeError: An attribute is not in the catalogue.
        quorum_client.InvalidRequest: An attribute or a setting cannot work; nothing was begun.
        quorum_client.Unavailable: The channel does not answer within the patience; nothing was asked.
        quorum.server.triton.ServerProcessError: With ``only``, their server does not start.
    """
    options.check()
    names = names_of(files)
    if options.only is not None:
        return extract_only(deployment, names, options, options.only, progress, note)
    attributes = attributes_of(deployment, options.attributes, note, is_open=options.open)
    # What every request would be refused for.
    encode_attributes(attributes)
    check_lazy(deployment, options.lazy)
    outputs = outputs_of(options)
    if options.lazy and options.votes:
        note(lazy_warning(Path(options.votes)))
    url = options.url or endpoint_of(deployment).grpc_url
    folder = job_folder(outputs, options)
    columns = column_names(deployment, attributes, options)
    with keeping_no_stdin(folder):
        found = find_input(names, columns, options, folder, note, deployment.catalogue(), outputs)
        check_apart(names, outputs, found)
        check_bad(found, options, note)
        spec = JobSpec(
            scan=found,
            mapping=asked_of(names, columns, options),
            attributes=tuple(attributes),
            catalogue=deployment.catalogue(),
            members=tuple(deployment.member_names),
            outputs=outputs,
            channel=options.asked_channel,
            canary_share=options.canary_share,
            lazy=options.lazy,
        )
        ledger = Ledger.begin(
            folder, spec, accept_new_weights=options.accept_new_weights, force=options.force, note=note
        )
    version: int | None = None
    try:
        take_over(folder, ledger, note, retry_failed=options.retry_failed)
        if ledger.has_rows_to_ask(options.retry_failed):
            version = wait_for(
                lambda timeout_s: served_version(deployment, url, options.asked_channel, timeout_s),
                options.patience_s,
                note,
            )
            ledger.check_weights(options.asked_channel, version)
        listing_of = listings_by(found, deployment)
        job: Job | RayJob
        if options.engine == "ray":
            settings = NodeSettings(
                folder.resolve(),
                for_nodes(found),
                listing_of,
                tuple(attributes),
                options,
                url,
                version,
                spec.members,
            )
            job = RayJob(settings, ledger, options.ray_address, note, progress)
        else:
            client, members = client_of(url, options), spec.members
            job = Job(client, found, listing_of, ledger, attributes, options, note, progress, members)
        return _run(job, ledger, folder, deployment.currency, options, note)
    finally:
        ledger.close()


def _run(
    job: Job | RayJob, ledger: Ledger, folder: Path, currency: str, options: ExtractOptions, note: Note
) -> ExtractReport:
    """Ask what has no outcome yet, and join the outputs once everything has one."""
    before = ledger.counts
    if before.tally.done:
        spent = before.tally.spent
        cost = f" for {money(spent.cost, currency)}" if spent.without_cost < spent.answers else ""
        note(f"{folder}: goes on; {before.tally.done} of {before.rows} rows are done already{cost}")
    ended: Ended = "complete"
    outputs: tuple[str, ...] = ()
    try:
        if asyncio.run(job.run()) if isinstance(job, Job) else job.run():
            outputs = ledger.finish()
        else:
            ended = "unavailable"
    except KeyboardInterrupt:
        ended = "interrupted"
    counts = ledger.counts
    return ExtractReport(
        rows=counts.rows,
        tally=counts.tally,
        asked=job.asked,
        ended=ended,
        last_error=job.reason if ended == "unavailable" else None,
        outputs=outputs,
        job=str(folder),
        routed=options.canary_share is not None,
        budgets=job.budgets.spent,
    )


def outputs_of(options: ExtractOptions) -> Outputs:
    """What a run writes; raises OutputError where it is nothing, or has no format."""
    targets = []
    if options.out is not None:
        targets.append(target_of("answers", str(options.out)))
    if options.votes is not None:
        targets.append(target_of("votes", str(options.votes)))
    if targets:
        targets.append(dead_letters_of(targets[0]))
    return Outputs(targets=tuple(targets), escaped=options.escaped)


def job_folder(outputs: Outputs, options: ExtractOptions) -> Path:
    """The folder that keeps what is done, on this machine."""
    if options.job is not None:
        return Path(options.job)
    first = outputs.targets[0]
    # Of an object store its last name, here.
    place = Path(PurePosixPath(first.name).name) if first.is_url else Path(first.name)
    return place.with_name(f"{place.name}.job")
