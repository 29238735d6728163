# SPDX-License-Identifier: Apache-2.0
"""Distil judged pairs into a student: assistant, mined pairs, student, figures, folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quorum.bulk.callbacks import Note, ignore
from quorum.distill.assistant import Assistant, PairTexts
from quorum.distill.candidates import Candidates, pair_texts, with_more
from quorum.distill.figures import Rated, held_out_of, plain_figures
from quorum.distill.lessons import DistillSources, Material, gather_material, pairs_of
from quorum.distill.mine import ASSISTANT_NEGATIVES, NEGATIVES
from quorum.distill.options import DistillOptions
from quorum.distill.remarks import member_of, remarks_on
from quorum.distill.split import Split, split_by_keyphrase, split_from_file
from quorum.distill.student import EPOCHS, RATES, FitOptions, Lesson, Student, Texts, joined
from quorum.distill.write import ASSISTANT, finish, int8_vectors, write_assistant, write_student
from quorum.files import hash_file
from quorum.records import Record
from quorum.retrieval.judged import Judged, JudgedError, asked_hash, check_question
from quorum.retrieval.judged_files import read_judged
from quorum.retrieval.manifest import STUDENT_FILE, StudentManifest
from quorum.retrieval.vectors import Vectors
from quorum.tasks.attribute import CatalogueError
from quorum.tasks.default import Default
from quorum.tune.base import Base, read_base
from quorum.tune.folder import reserved, whole_folder
from quorum.tune.loop import CHECKPOINT_FOLDER, Progress, Step, Trained, check_seed
from quorum.tune.quiet import without_announcements

Stages = Callable[[Step, str], None]
"""Called after each step with the name of what is trained."""
_USUAL = Default("Would a buyer who searches for {name} want this product?", ("irrelevant", "relevant"))
"""What pairs were asked whose provenance does not say."""


@dataclass(frozen=True, slots=True)
class DistillReport(Record):
    """A student.

    Attributes:
        out: Its folder.
        student: What it was made of, and figures on held-out keyphrases.
        member: Lines for ``deploy.yaml`` that make the cross-encoder a member; "" where there is none.
    """

    out: Path
    student: StudentManifest
    member: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        import msgspec

        content = {"out": str(self.out), "student": msgspec.to_builtins(self.student)}
        return {**content, "member": self.member} if self.member else content


def distill_student(
    judged: Path,
    base: Path,
    out: Path,
    options: DistillOptions | None = None,
    sources: DistillSources | None = None,
    *,
    held_out: Path | None = None,
    progress: Stages | None = None,
    note: Note = ignore,
) -> DistillReport:
    """Teach a student what the ensemble judged, and write its folder, with that of the cross-encoder.

    Everything is read and checked before training. A run that was killed goes on from its checkpoints when it
    is started again with the same arguments.

    Args:
        judged: Judged pairs, as ``quorum judge`` writes them.
        base: Folder of an encoder, in the format of transformers, with mean pooling.
        out: Folder to make.
        options: See there.
        sources: Further files.
        held_out: Judged pairs to judge by; None: of a share of the keyphrases of ``judged``.
        progress: Called after each step.
        note: Called with what comes next, where it takes a while.

    Raises:
        JudgedError: Judged pairs cannot be read or learned, or stand on both sides.
        SourceError: A further file cannot be read.
        ListingsError: The same of the items.
        TrainingDataError: Rows of a file mean nothing; the message names them.
        BaseModelError: ``base`` holds no encoder.
        TrainingError: ``out`` is in use, or training cannot go on.
        OnnxError: A network cannot be exported as it was trained.
        OSError: A file cannot be read or written.
    """
    options, sources = options or DistillOptions(), sources or DistillSources()
    check_seed(options.seed)
    note(f"reading {base} and {judged}")
    found = read_base(base, "encoder")
    run = _Run(found, judged, sources, options, held_out, progress, note)
    with without_announcements(), reserved(out, force=options.force, marker=STUDENT_FILE):
        return run.make(out)


class _Run:
    """One run, from files to a folder."""

    def __init__(
        self,
        base: Base,
        judged: Path,
        sources: DistillSources,
        options: DistillOptions,
        held_out: Path | None,
        progress: Stages | None,
        note: Note,
    ) -> None:
        self.base, self.path, self.sources, self.options = base, judged, sources, options
        self.note, self._progress = note, progress
        self.judged = read_judged(judged)
        self.split = _split(judged, self.judged, held_out, options)
        _refuse_constant(judged, self.split.train)
        self.asked = _asked(judged, self.judged)
        self.material = gather_material(self.split, sources, options)
        self.candidates = Candidates.of(self.material.pool, self.material.minable, self.material.known)
        self.files = {
            "judged": judged,
            **{name: path for name, path in asdict(sources).items() if path is not None},
            **({"held_out": held_out} if held_out else {}),
        }
        self.hashes = {name: hash_file(path) for name, path in self.files.items()}
        self.held_out = held_out_of(self.split.held_out, self.material.candidates, options.seed)

    def make(self, out: Path) -> DistillReport:
        """Train and write."""
        options = self.options
        student = Student(self.base, options.method, options.dims[0], options.max_tokens)
        dims = tuple(size for size in options.dims if size < student.adapter.dims)
        dims = (student.adapter.dims, *dims)
        self.note("computing vectors of the base")
        texts = _texts(student, self.material)
        before = self._base_vectors(student)
        assistant, trained = self._assist(out)
        lessons = self._lessons(assistant, texts)
        self._fit(student, texts, lessons, dims, out)
        now = before if options.method == "adapter" else self._base_vectors(student)
        items, keyphrases = student.adapted(*now)
        rated = {
            size: (self.held_out.rate(items, keyphrases, size), self.held_out.rate(*before, size))
            for size in dims
        }
        figures: dict[str, Any] = {
            "pairs": len(self.held_out.labels),
            "queries": len(np.unique(self.held_out.keyphrase_of)),
        }
        for name, side in (("student", 0), ("zero_shot", 1)):
            figures[name] = {
                str(d): plain_figures(self.held_out.figures(both[side])) for d, both in rated.items()
            }
        figures["over_zero_shot"] = {
            str(d): plain_figures(self.held_out.figures(*both)) for d, both in rated.items()
        }
        with whole_folder(out) as folder:
            write_student(student, self.held_out.items, folder)
            manifest = finish(folder, self._manifest(dims, lessons))
            self.note("measuring what int8 loses")
            small = self.held_out.rate(*int8_vectors(folder, self.held_out), dims[0])
            figures["int8_less_float32"] = plain_figures(self.held_out.figures(small, rated[dims[0]][0]))
            if assistant is not None and trained is not None:
                figures[ASSISTANT] = self._write_assistant(assistant, trained, folder / ASSISTANT)
            manifest = finish(folder, _with(manifest, figures, self._remarks(figures, lessons)))
        member = "" if assistant is None else member_of(self.asked, out / ASSISTANT)
        return DistillReport(out, manifest, member)

    def _assist(self, out: Path) -> tuple[Assistant | None, Trained | None]:
        """The trained cross-encoder; None where the student learns without one."""
        options = self.options
        if options.direct or not self.material.judge.weight:
            return None, None
        self.note(f"loading {self.base.folder} as cross-encoder")
        assistant = Assistant(self.base, self.asked, options.max_tokens, options.seed)
        settings = [options.assistant_epochs, options.max_tokens, options.seed, options.share]
        trained = assistant.fit(
            self._assistant_pairs(),
            pair_texts(self.split.check),
            out / CHECKPOINT_FOLDER / ASSISTANT,
            self._fingerprint(settings, ("judged", "held_out")),
            options.assistant_epochs,
            options.seed,
            self._stage(ASSISTANT),
        )
        return assistant, trained

    def _assistant_pairs(self) -> PairTexts:
        more, rows = self._random(ASSISTANT_NEGATIVES), self.material.rows
        return with_more(pair_texts(self.split.train), more, list(rows.items), list(rows.keyphrases))

    def _random(self, share: float) -> Lesson:
        """Random pairs, taken as irrelevant; a share of the number of judged ones."""
        return self.candidates.random(round(share * len(self.material.judge)), self.options.seed)

    def _lessons(self, assistant: Assistant | None, texts: Texts) -> list[Lesson]:
        parts = [self.material.judge, self._random(NEGATIVES)]
        if assistant is not None:
            items, keyphrases = self.candidates.near(texts, self.options.pool, self.options.seed)
            # None are left where every item is judged with every keyphrase.
            if len(items):
                self.note(f"labelling {len(items)} mined pairs by the cross-encoder")
                labels = assistant.label(
                    [texts.items[i] for i in items], [texts.keyphrases[k] for k in keyphrases]
                )
                parts.append(Lesson("judge", items, keyphrases, labels))
        judge = joined(parts, self.material.judge.weight)
        return [lesson for lesson in (judge, *self.material.others) if lesson.weight]

    def _fit(
        self, student: Student, texts: Texts, lessons: Sequence[Lesson], dims: tuple[int, ...], out: Path
    ) -> None:
        options = self.options
        if not lessons:
            raise JudgedError(f"{self.path}: no task has data: see --weights, --clicks and --relevance")
        settings = FitOptions(
            options.loss,
            dims,
            options.epochs or EPOCHS[options.method],
            options.learning_rate or RATES[options.method],
            options.batch,
            options.seed,
        )
        content = {key: value for key, value in asdict(options).items() if key != "force"}
        student.fit(
            texts,
            lessons,
            self.material.check,
            settings,
            out / CHECKPOINT_FOLDER / "student",
            self._fingerprint(content, tuple(self.files)),
            self._stage("student"),
        )

    def _base_vectors(self, student: Student) -> tuple[Vectors, Vectors]:
        """Of the held-out items and keyphrases."""
        return student.base_vectors(self.held_out.items), student.base_vectors(self.held_out.keyphrases)

    def _write_assistant(self, assistant: Assistant, trained: Trained, folder: Path) -> dict[str, Any]:
        pairs = pairs_of(self.split.held_out)
        scores = assistant.label([item for item, _ in pairs], [keyphrase for _, keyphrase in pairs])
        figures = plain_figures(self.held_out.figures(Rated(scores, np.empty(0))))
        settings = {
            "data": self.path.name,
            "data_hash": self.hashes["judged"],
            "rows": len(self.split.train),
            "held_out_rows": len(pairs),
            "seed": self.options.seed,
            "epochs": self.options.assistant_epochs,
        }
        parts = (self._assistant_pairs(), pair_texts(self.split.check), pair_texts(self.split.held_out))
        tuned_on = {line for part in parts for line in assistant.question_hashes(part.items, part.keyphrases)}
        write_assistant(assistant, self.base, pairs, trained, figures, settings, tuned_on, folder)
        return figures

    def _stage(self, name: str) -> Progress | None:
        if (progress := self._progress) is None:
            return None
        return lambda step: progress(step, name)

    def _fingerprint(self, settings: Any, files: Sequence[str]) -> str:
        content = [self.base.hash, settings, {name: self.hashes.get(name) for name in files}]
        return f"sha256:{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}"

    def _manifest(self, dims: tuple[int, ...], lessons: Sequence[Lesson]) -> StudentManifest:
        options = self.options
        settings = {key: value for key, value in asdict(options).items() if key != "force"}
        settings |= {
            "dims": list(dims),
            "epochs": options.epochs or EPOCHS[options.method],
            "learning_rate": options.learning_rate or RATES[options.method],
        }
        data: dict[str, Any] = {
            name: {"file": path.name, "hash": self.hashes[name]} for name, path in self.files.items()
        }
        data |= {"pairs": {lesson.task: len(lesson) for lesson in lessons}}
        data["pairs"] |= {"judged": len(self.split.train), "held_out": len(self.split.held_out)}
        data["judge"] = dict(self.judged.provenance)
        return StudentManifest(
            dims=dims,
            max_tokens=options.max_tokens,
            base={"name": self.base.folder.name, "hash": self.base.hash},
            licence=self.base.licence,
            data=data,
            settings=settings,
        )

    def _remarks(self, figures: Mapping[str, Any], lessons: Sequence[Lesson]) -> tuple[str, ...]:
        tasks = [lesson.task for lesson in lessons]
        return tuple(remarks_on(figures, self.material.left_out, tasks, self.options))


def _split(path: Path, judged: Judged, held_out: Path | None, options: DistillOptions) -> Split:
    if held_out is not None:
        other = read_judged(held_out)
        check_question(held_out, other.provenance, asked_hash(judged.provenance), str(path))
        return split_from_file(path, judged, held_out, other, options.seed)
    return split_by_keyphrase(path, judged, options.share, options.seed)


def _refuse_constant(path: Path, train: Judged) -> None:
    if len(train) and train.labels.min() == train.labels.max():
        raise JudgedError(
            f"{path}: all {len(train)} labels to train on are {train.labels[0]:g}, so that nothing can be"
            " learned (Pearson's correlation has no gradient); judge relevant and irrelevant pairs"
        )


def _asked(path: Path, judged: Judged) -> Default:
    """What the judge was asked, as the provenance has it."""
    question = judged.provenance.get("question")
    if not isinstance(question, dict) or "values" not in question:
        return _USUAL
    known = _USUAL.to_json()
    try:
        return Default.from_json({key: question.get(key, usual) for key, usual in known.items()})
    except (CatalogueError, TypeError, AttributeError) as error:
        raise JudgedError(f"{path}: the question in its provenance cannot be asked: {error}") from error


def _texts(student: Student, material: Material) -> Texts:
    items, keyphrases = tuple(material.rows.items), tuple(material.rows.keyphrases)
    return Texts(items, keyphrases, student.base_vectors(items), student.base_vectors(keyphrases))


def _with(manifest: StudentManifest, figures: Mapping[str, Any], remarks: tuple[str, ...]) -> StudentManifest:
    import msgspec

    return msgspec.structs.replace(manifest, figures=figures, remarks=remarks)
