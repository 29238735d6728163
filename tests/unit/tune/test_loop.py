# SPDX-License-Identifier: Apache-2.0
"""The training loop: a run that was killed ends as one that was not, and the best weights are kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quorum.tune.interrupts import TrainingInterrupted, whole
from quorum.tune.loop import CHECKPOINT_FOLDER, LoopOptions, TrainingError, train

OPTIONS = LoopOptions(epochs=4, batch=8, learning_rate=0.05, checkpoint_every=3, seed=5)
STEPS = 4 * 4
pytestmark = pytest.mark.torch


@pytest.fixture(scope="module", autouse=True)
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not installed here: run `make setup-hf`")


def make_run(
    torch: Any, folder: Path, options: LoopOptions = OPTIONS, progress: Any = None, **more: Any
) -> Any:
    """Train a small network with dropout on 30 rows; returns the result and its weights."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
    x = torch.randn(30, 4)
    y = x.sum(1, keepdim=True)

    def loss_of(rows: Any) -> Any:
        return (model(x[list(rows)]) - y[list(rows)]).square().mean()

    def score() -> float:
        return -float((model(x) - y).square().mean())

    lengths = [row % 7 for row in range(30)]
    given = {"fingerprint": "one", **more}
    done = train(model, loss_of, lengths, score, options, folder, progress=progress, **given)
    return done, [p.detach().clone() for p in model.parameters()]


def test_a_killed_run_ends_like_one_that_was_not(torch: Any, tmp_path: Path) -> None:
    whole, expected = make_run(torch, tmp_path / "whole")
    assert (whole.steps, whole.resumed_at) == (STEPS, 0)
    code = (
        "import os, signal, sys, pathlib, torch\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_loop import make_run\n"
        "kill = lambda step: os.kill(os.getpid(), signal.SIGKILL) if step.done == 11 else None\n"
        "make_run(torch, pathlib.Path(sys.argv[1]), progress=kill)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "killed")], env={**os.environ}, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    again, found = make_run(torch, tmp_path / "killed")
    assert again.resumed_at == 9
    assert again[:3] == whole[:3]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("moment", ["loss", "score", "progress"])
def test_a_run_that_was_interrupted_goes_on_from_where_it_was(
    torch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    options = replace(OPTIONS, checkpoint_every=100)
    _, expected = make_run(torch, tmp_path / "whole", options)
    calls: list[int] = []

    def interrupting(call: Any) -> Any:
        def run(*args: Any, **more: Any) -> Any:
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return call(*args, **more)

        return run

    target = tmp_path / "interrupted"
    with monkeypatch.context() as patch:
        if moment == "loss":
            patch.setattr(torch.nn.Dropout, "forward", interrupting(torch.nn.Dropout.forward))
        elif moment == "score":
            patch.setattr(torch.nn.Module, "eval", interrupting(torch.nn.Module.eval))
        progress = interrupting(lambda _: None) if moment == "progress" else None
        with pytest.raises(TrainingInterrupted) as stopped:
            make_run(torch, target, options, progress)
    done = {"loss": 1, "score": 8, "progress": 2}[moment]
    assert (stopped.value.step, stopped.value.total) == (done, STEPS)
    again, found = make_run(torch, target, options)
    assert again.resumed_at == done
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_an_interruption_before_the_first_step_leaves_nothing(torch: Any, tmp_path: Path) -> None:
    def interrupt(rows: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted, match="interrupted after step 0 of 4"):
        train(torch.nn.Linear(1, 1), interrupt, [1], float, OPTIONS, tmp_path, "x")
    assert not (tmp_path / CHECKPOINT_FOLDER).exists()


def test_checkpoints_are_written_by_time_too(
    torch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, written = 0.0, list[int]()
    monkeypatch.setattr("quorum.tune.loop.time.monotonic", lambda: now)
    path = tmp_path / CHECKPOINT_FOLDER / "training.pt"

    def tick(step: Any) -> None:
        nonlocal now
        now += 6.0
        if path.is_file():
            written.append(step.done)
            path.unlink()

    make_run(torch, tmp_path, replace(OPTIONS, checkpoint_every=100), progress=tick)
    # After 20 seconds, then after each 30.
    assert written == [5, 10, 15]


@pytest.mark.usefixtures("own_stack")
def test_signals_wait_for_the_end_of_a_block() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), list[str]()
    signal.signal(signal.SIGTERM, lambda *_: seen.append("handled"))
    try:
        with whole():
            signal.raise_signal(signal.SIGTERM)
            assert not seen
        assert seen == ["handled"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_best_weights_are_kept_and_training_ends_early(torch: Any, tmp_path: Path) -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    scores = iter([0.5, 0.9, 0.1, 0.2, 0.95])
    weights: list[float] = []

    def score() -> float:
        weights.append(model.weight.item())
        return next(scores)

    options = LoopOptions(epochs=5, batch=1, learning_rate=0.1, patience=2, checkpoint_every=0)
    done = train(model, lambda rows: model.weight.square().sum(), [1], score, options, tmp_path, "x")
    assert (done.steps, done.best_step, done.best_score) == (4, 2, 0.9)
    assert model.weight.item() == weights[1]
    assert not (tmp_path / CHECKPOINT_FOLDER).exists()


def test_a_checkpoint_of_another_run_is_refused(torch: Any, tmp_path: Path) -> None:
    make_run(torch, tmp_path)
    with pytest.raises(TrainingError, match="another base, data or settings"):
        make_run(torch, tmp_path, fingerprint="two")


def test_a_damaged_checkpoint_is_refused(torch: Any, tmp_path: Path) -> None:
    make_run(torch, tmp_path)
    (checkpoint,) = (tmp_path / CHECKPOINT_FOLDER).iterdir()
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(TrainingError, match=r"cannot be read .* remove"):
        make_run(torch, tmp_path)


def test_a_loss_that_is_no_number_ends_training(torch: Any, tmp_path: Path) -> None:
    model = torch.nn.Linear(1, 1)
    with pytest.raises(TrainingError, match="the loss is nan at step 0; lower"):
        train(model, lambda rows: model.weight.sum() * float("nan"), [1], float, OPTIONS, tmp_path, "x")


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_ends_training(torch: Any, tmp_path: Path, score: float) -> None:
    model = torch.nn.Linear(1, 1)
    with pytest.raises(TrainingError, match=f"the score on held-out rows is {score:g} after step 1; lower"):
        train(model, lambda rows: model.weight.sum(), [1], lambda: score, OPTIONS, tmp_path, "x")


def test_a_finished_run_is_not_trained_again(torch: Any, tmp_path: Path) -> None:
    first, expected = make_run(torch, tmp_path)
    steps: list[Any] = []
    again, found = make_run(torch, tmp_path, progress=steps.append)
    assert (again.resumed_at, steps) == (STEPS, [])
    assert again[:4] == first[:4]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_pytorch_does_not_take_is_refused(torch: Any, tmp_path: Path, seed: int) -> None:
    with pytest.raises(TrainingError, match=f"--seed {seed}: give a number from 0 to 4294967295"):
        make_run(torch, tmp_path, replace(OPTIONS, seed=seed))
    make_run(torch, tmp_path, replace(OPTIONS, epochs=1, seed=2**32 - 1))


def test_progress_tells_loss_rate_and_time_left(torch: Any, tmp_path: Path) -> None:
    steps: list[Any] = []
    make_run(torch, tmp_path, progress=steps.append)
    assert [step.done for step in steps] == list(range(1, STEPS + 1))
    assert {step.total for step in steps} == {STEPS}
    assert steps[-1].eta == 0.0
    assert all(step.rate > 0 for step in steps)
    assert steps[0].score is None
    assert steps[-1].score is not None


def test_each_row_is_trained_on_once_an_epoch_in_an_order_of_the_seed(torch: Any, tmp_path: Path) -> None:
    model, seen = torch.nn.Linear(1, 1), list[int]()

    def loss_of(rows: Any) -> Any:
        seen.extend(rows)
        return model.weight.sum()

    options = LoopOptions(epochs=2, batch=3, checkpoint_every=0)
    train(model, loss_of, [n % 5 for n in range(20)], float, options, tmp_path, "x")
    assert sorted(seen[:20]) == sorted(seen[20:]) == list(range(20))
    assert seen[:20] != seen[20:]


@pytest.mark.parametrize("batch", [30, 15, 10, 8, 3, 2])
def test_a_short_run_has_a_schedule_too(torch: Any, tmp_path: Path, batch: int) -> None:
    done, _ = make_run(torch, tmp_path, replace(OPTIONS, epochs=1, batch=batch))
    assert done.steps == -(-30 // batch)
