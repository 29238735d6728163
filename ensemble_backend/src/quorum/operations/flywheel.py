# SPDX-License-Identifier: Apache-2.0
"""One turn of the loop for a new day's items: judge, distil, index, publish, measure."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from quorum.bulk.callbacks import Note, Progress, ignore
from quorum.bulk.judging.journal import path_of
from quorum.bulk.judging.labels import asked_by
from quorum.bulk.judging.outputs import BROKEN
from quorum.bulk.judging.pairs import read_pairs
from quorum.bulk.judging.requests import requests_of
from quorum.bulk.judging.run import JudgeOptions, judge
from quorum.deployment.schema import Deployment
from quorum.distill.options import DistillOptions
from quorum.distill.pool import pool, refuse_too_few
from quorum.distill.run import Stages, distill_student
from quorum.distill.write import ASSISTANT
from quorum.evaluation.savings import (
    Savings,
    measure_savings,
    score_by_cross_encoder,
    score_by_student,
)
from quorum.files import hash_file
from quorum.operations.evaluate_retrieval import (
    RetrievalOptions,
    evaluate_retrieval,
    read_truth,
)
from quorum.operations.flywheel_report import FlywheelReport, evaluation_of
from quorum.operations.flywheel_steps import FlywheelError, Steps, one_turn
from quorum.operations.index import IndexOptions, index_keyphrases
from quorum.operations.rollout import publish
from quorum.records import plain
from quorum.repository.retriever_config import settings_of_retriever
from quorum.retrieval.judged import Judged, check_question
from quorum.retrieval.judged_files import read_judged, read_provenance
from quorum.retrieval.manifest import (
    RETRIEVER_FILE,
    STUDENT_FILE,
    check_retriever,
    check_student,
    read_retriever,
)
from quorum.retrieval.version_folder import remove_parts
from quorum.rollout.lock import WorseVersion
from quorum.tune.base import read_base
from quorum.tune.folder import reserved
from quorum.tune.loop import TrainingError

DAY, JUDGED, STUDENT, VERSION = "day.parquet", "judged.parquet", "student", "version"
PUBLISHING = "publishing the version"
"""What is noted before the server changes."""
_K = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class FlywheelOptions:
    """Options of :func:`flywheel`.

    Attributes:
        held_out: Judged pairs of keyphrases that no student learns; None: ``retriever.heldout`` of the
            deployment. The gate of the publish and all figures are of them.
        before: Judged pairs of earlier days, such as ``judged.parquet`` of the last turn.
        against: Student to compare with; None: the base as it is.
        force: Reason, for the history, to publish a version that the gate refuses.
        judge: How the day's pairs are judged; ``out`` and ``dry_run`` do not count.
        distill: How the student is taught.
        index: How its keyphrases are indexed.
    """

    held_out: Path | None = None
    before: Path | None = None
    against: Path | None = None
    force: str | None = None
    judge: JudgeOptions = field(default_factory=JudgeOptions)
    distill: DistillOptions = field(default_factory=DistillOptions)
    index: IndexOptions = field(default_factory=IndexOptions)


def flywheel(
    deployment: Deployment,
    day: Path,
    base: Path,
    keyphrases: Path,
    out: Path,
    options: FlywheelOptions | None = None,
    *,
    progress: Progress = ignore,
    stages: Stages | None = None,
    note: Note = ignore,
) -> FlywheelReport:
    """Judge a day's pairs, teach a student, index, publish and measure.

    The same call goes on after anything that ended it: a step whose product is in ``out`` is not done again,
    and within a step nothing that was judged, trained or embedded is. No channel changes but by the first
    version of a retriever. A version that the gate refuses is measured all the same.

    Args:
        deployment: The deployment that is served, with a ``default`` question.
        day: Pairs to judge, see :func:`quorum.bulk.judging.pairs.read_pairs`.
        base: Folder of the base encoder.
        keyphrases: To index, see :func:`quorum.retrieval.keyphrase_lines.read_lines`.
        out: Folder of this turn.
        options: See there.
        progress: Called with the numbers of judged and of all pairs.
        stages: Called after each step of training.
        note: Called with what comes next.

    Raises:
        FlywheelError: There are no held-out pairs, judgements of another question, or ``out`` has steps of
            other inputs.
        QuorumError: A step fails, as its own command would; the call may be repeated.
        OSError: A file cannot be read or written, or another process makes this turn.
    """
    options = options or FlywheelOptions()
    turn = _Turn(deployment, day, base, keyphrases, options, note)
    with one_turn(out) as steps:
        _check_products(out)
        judged = turn.judge(steps, progress)
        pooled = turn.distil(steps, stages)
        indexed = turn.index(steps)
        published, refused = turn.publish(steps)
        measured = turn.measure(steps)
        return FlywheelReport(
            out=out,
            version=published.get("version"),
            refused=refused,
            gate=published.get("gate", ""),
            members=len(deployment.member_names),
            **judged,
            learned=pooled["pairs"],
            replaced=pooled["replaced"],
            changed=pooled["changed"],
            held_out=pooled["held_out"],
            keyphrases=indexed["keyphrases"],
            evaluation=evaluation_of(measured["evaluation"]),
            savings=msgspec.convert(measured["savings"], dict[str, Savings]),
            seconds=steps.seconds,
        )


def _check_products(folder: Path) -> None:
    """Refuse a turn whose student or version was damaged since it was made, as a ManifestError."""
    if (folder / STUDENT / STUDENT_FILE).exists():
        check_student(folder / STUDENT)
    if (folder / VERSION / RETRIEVER_FILE).exists():
        check_retriever(folder / VERSION)


class _Turn:
    """The inputs of a turn, checked, and its steps."""

    def __init__(
        self,
        deployment: Deployment,
        day: Path,
        base: Path,
        keyphrases: Path,
        options: FlywheelOptions,
        note: Note,
    ) -> None:
        self._deployment, self._day, self._base = deployment, day, base
        self._keyphrases, self._options, self._note = keyphrases, options, note
        settings = settings_of_retriever(deployment)
        path = options.held_out or (deployment.root / settings.heldout if settings.heldout else None)
        if path is None:
            raise FlywheelError(
                "no pairs are held out: judge pairs of keyphrases that no student is to learn, and name the"
                " file by `retriever.heldout` in deploy.yaml, or by --heldout"
            )
        self._held_out = path
        # What could be refused after hours of judging is looked at first.
        self._asked = asked_by(deployment).hash
        read_base(base, "encoder")
        read_truth(path, keyphrases, _K)
        if options.against:
            check_student(options.against)
        for file in filter(None, (options.before, path)):
            check_question(file, read_provenance(file), self._asked, "`default` of deploy.yaml")

    def judge(self, steps: Steps, progress: Progress) -> Any:
        """Ask the ensemble about the day's pairs; ``day.parquet``."""
        chosen, out = self._options.judge, steps.folder / DAY

        def act() -> None:
            refuse_too_few(self._day, self._keyphrases_of_day(), self._options.before, self._held())
            options = replace(chosen, out=out, dry_run=False)
            report = judge(self._deployment, self._day, options, progress=progress, note=self._note)
            if report.ended == "interrupted":
                raise KeyboardInterrupt
            if report.left:
                raise FlywheelError(
                    f"{report.left} pairs have no answer, the last error: {report.last_error}; run the same"
                    " command again to go on"
                )

        def describe() -> dict[str, Any]:
            # Of a process that was killed as it ended.
            path_of(out).unlink(missing_ok=True)
            stated = read_provenance(out)
            asked, left_out = stated["input"]["pairs"], stated["left_out"]
            read = read_pairs(
                self._day,
                self._deployment.catalogue(),
                chosen.text,
                limit=chosen.limit,
                max_bad=chosen.max_bad,
            )
            return {
                "pairs": asked,
                "judged": asked - sum(count for why, count in left_out.items() if why != BROKEN),
                "left_out": left_out,
                "requests": len(requests_of(read.good, chosen.per_request)),
                "spent": stated["spent"],
            }

        inputs = {
            "file of pairs": hash_file(self._day),
            "question": self._asked,
            "text columns": list(chosen.text),
            "limit": chosen.limit,
        }
        return steps.do("judge", inputs, out, act, describe)

    def distil(self, steps: Steps, stages: Stages | None) -> Any:
        """Teach a student by all judged pairs; ``judged.parquet`` and ``student``."""
        folder, judged, student = steps.folder, steps.folder / JUDGED, steps.folder / STUDENT
        options = replace(self._options.distill, force=False)
        pooled: dict[str, Any] = {}

        def act() -> None:
            found = pool(self._options.before, folder / DAY, self._held(), judged)
            pooled.update(asdict(found))
            self._note(f"{found.pairs} judged pairs to learn from")
            distill_student(
                judged,
                self._base,
                student,
                options,
                held_out=self._held_out,
                progress=stages,
                note=self._note,
            )

        def describe() -> dict[str, Any]:
            with suppress(TrainingError), reserved(student, marker=STUDENT_FILE):
                # It tidies what a process left that was killed as it ended.
                pass
            return pooled or asdict(pool(self._options.before, folder / DAY, self._held(), judged))

        inputs = {
            "day's judged pairs": hash_file(folder / DAY),
            "judged pairs before": None if self._options.before is None else hash_file(self._options.before),
            "held-out pairs": hash_file(self._held_out),
            "base": read_base(self._base, "encoder").hash,
            "settings": plain(asdict(options)),
        }
        return steps.do("distil", inputs, student / STUDENT_FILE, act, describe)

    def index(self, steps: Steps) -> Any:
        """Embed the keyphrases; ``version``."""
        student, version, options = steps.folder / STUDENT, steps.folder / VERSION, self._options.index

        def describe() -> dict[str, Any]:
            remove_parts(version)
            found = read_retriever(version)
            return {"keyphrases": found.keyphrases, "content": found.content_hash}

        inputs = {
            "student": hash_file(student / STUDENT_FILE),
            "file of keyphrases": hash_file(self._keyphrases),
            "blocklist": None if options.blocklist is None else hash_file(options.blocklist),
            "settings": plain(asdict(options)),
        }
        return steps.do(
            "index", inputs, version / RETRIEVER_FILE,
            lambda: index_keyphrases(self._keyphrases, student, version, options, note=self._note), describe,
        )  # fmt: skip

    def publish(self, steps: Steps) -> tuple[Any, str]:
        """Publish the version by the gate; what it says of itself, and why it was refused."""
        version = steps.folder / VERSION

        def act() -> dict[str, Any]:
            self._note(PUBLISHING)
            change = publish(self._guarded(), version, force=self._options.force, note=self._note)
            return {"version": change.version, "gate": str(change.comparison or "")}

        inputs = {"version": read_retriever(version).content_hash}
        try:
            return steps.do("publish", inputs, None, lambda: None, act), ""
        except WorseVersion as error:
            return {}, str(error)

    def measure(self, steps: Steps) -> Any:
        """Compare the student with others, and count what an encoder that is asked first would save."""
        student, against = steps.folder / STUDENT, self._options.against

        def describe() -> dict[str, Any]:
            dims = {read_retriever(steps.folder / VERSION).dims, check_student(student).dims[0]}
            options = RetrievalOptions(
                against=against,
                base=None if against else self._base,
                keyphrases=self._keyphrases,
                dims=sorted(dims, reverse=True),
                k=_K,
            )
            found = evaluate_retrieval(self._held_out, student, options, note=self._note)
            return {"evaluation": plain(found), "savings": plain(savings_of(student, self._held_out))}

        inputs = {
            "student": hash_file(student / STUDENT_FILE),
            "held-out pairs": hash_file(self._held_out),
            "file of keyphrases": hash_file(self._keyphrases),
            "student to compare with": hash_file(against / STUDENT_FILE) if against else None,
        }
        return steps.do("measure", inputs, None, lambda: None, describe)

    def _keyphrases_of_day(self) -> set[str]:
        """Those that are judged."""
        chosen, catalogue = self._options.judge, self._deployment.catalogue()
        read = read_pairs(self._day, catalogue, chosen.text, limit=chosen.limit, max_bad=chosen.max_bad)
        return {pair.keyphrase for pair in read.good}

    def _held(self) -> Judged:
        return read_judged(self._held_out)

    def _guarded(self) -> Deployment:
        """The deployment, whose gate measures by the held-out pairs of this turn."""
        settings = settings_of_retriever(self._deployment)
        changed = settings.model_copy(update={"heldout": str(self._held_out.absolute())})
        return self._deployment.model_copy(update={"retriever": changed})


def savings_of(student: Path, held_out: Path) -> dict[str, Savings]:
    """What a student and its cross-encoder, if there is one, would save on held-out pairs.

    Raises:
        JudgedError: The pairs cannot be read.
        ManifestError: The student cannot be opened.
    """
    judged = read_judged(held_out)
    found = {"student": measure_savings(score_by_student(student, judged), judged)}
    if (student / ASSISTANT).is_dir():
        found[ASSISTANT] = measure_savings(score_by_cross_encoder(student / ASSISTANT, judged), judged)
    return found
