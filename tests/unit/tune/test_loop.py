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
