# SPDX-License-Identifier: Apache-2.0
"""Losses and networks of a student: by their formulas, and what each method trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny_encoder import write_encoder

from quorum.distill.student import FitOptions, Lesson, Student, Texts
from quorum.evaluation.relevance import pearson
from quorum.retrieval.vectors import cut
from quorum.tune.base import Base, read_base

WORDS = ("red", "blue", "cap", "mug")
pytestmark = [pytest.mark.torch, pytest.mark.timeout(400)]


@pytest.fixture(scope="module", autouse=True)
def torch() -> Any:
    pytest.importorskip("transformers", reason="transformers is not installed here: run `make setup-hf`")
    return pytest.importorskip("torch", reason="PyTorch is not installed here: run `make setup-hf`")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return read_base(write_encoder(tmp_path_factory.mktemp("base"), WORDS))


def test_the_pearson_loss_is_one_less_the_correlation(torch: Any) -> None:
    from quorum.distill.losses import mse_loss, pearson_loss

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 40))
    tensors = [torch.tensor(column, requires_grad=True) for column in (a, b)]
    loss = pearson_loss(*tensors)
    assert loss.item() == pytest.approx(1 - np.corrcoef(a, b)[0, 1], abs=1e-6)
    assert pearson_loss(torch.tensor(3 * a - 5), torch.tensor(b)).item() == pytest.approx(
        loss.item(), abs=1e-6
    )
    assert mse_loss(*tensors).item() == pytest.approx(((a - b) ** 2).mean())
    # Labels that are all equal teach nothing, and break nothing.
    same = pearson_loss(tensors[0], torch.full((40,), 0.5, dtype=torch.float64))
    same.backward()
    assert same.item() == 1
    assert not tensors[0].grad.any()


def test_the_nested_loss_is_the_mean_over_cut_vectors(torch: Any) -> None:
    from quorum.distill.losses import nested_loss, pearson_loss

    items, keyphrases = torch.randn(2, 30, 8, dtype=torch.float64)
    targets = torch.rand(30, dtype=torch.float64)
    parts = [pearson_loss(torch.cosine_similarity(items[:, :d], keyphrases[:, :d]), targets) for d in (8, 3)]
    found = nested_loss("pearson", items, keyphrases, targets, (8, 3))
    assert found.item() == pytest.approx(torch.stack(parts).mean().item())


def test_the_exported_network_is_base_and_adapter_in_one_product(torch: Any, base: Base) -> None:
    from quorum.distill.student_model import Folded

    student = Student(base, "adapter", 16, 12)
    torch.manual_seed(1)
    for parameter in student.adapter.parameters():
        torch.nn.init.normal_(parameter)
    vectors = student.base_vectors(["red cap", "mug"])
    items, keyphrases = student.adapted(vectors, vectors)
    np.testing.assert_allclose(
        items, vectors[:, :16] + vectors @ student.adapter.matrix.detach().numpy(), atol=1e-5
    )
    ids, mask = student.inputs.pad([student.inputs.encode(text) for text in ("red cap", "mug")])
    with torch.inference_mode():
        found = Folded(student.base, student.adapter)(torch.from_numpy(ids), torch.from_numpy(mask))
    np.testing.assert_allclose(found[0].numpy(), items, atol=1e-4)
    np.testing.assert_allclose(found[1].numpy(), keyphrases, atol=1e-4)


@pytest.mark.parametrize("method", ["adapter", "layers"])
def test_each_method_trains_its_own_part_and_learns(
    torch: Any, base: Base, tmp_path: Path, method: Any
) -> None:
    texts = [f"{a} {b}" for a in WORDS for b in WORDS]
    student = Student(base, method, 32, 12)
    before = {name: p.detach().clone() for name, p in student.base.named_parameters()}
    vectors = student.base_vectors(texts)
    if method == "adapter":
        # Those of a base with random weights are nearly equal.
        vectors = np.random.default_rng(0).normal(size=vectors.shape).astype(np.float32)
    rows = np.array([[i, k] for i in range(16) for k in range(16)], np.int64)
    # Only the last word counts, which the base knows nothing of.
    labels = np.array([texts[i].split()[1] == texts[k].split()[1] for i, k in rows], np.float32)
    alone = cut(vectors, 32)
    start = pearson((alone[rows[:, 0]] * alone[rows[:, 1]]).sum(1), labels)
    lessons = [
        Lesson("judge", rows[:, 0], rows[:, 1], labels),
        Lesson("clicks", rows[:20, 0], rows[:20, 1], labels[:20], 0.5),
    ]
    options = FitOptions("pearson", (32, 8), 12, 0.01 if method == "adapter" else 3e-3, 32, 0)
    done = student.fit(Texts(texts, texts, vectors, vectors), lessons, lessons[0], options, tmp_path, "one")
    assert done.best_score > start + 0.15
    changed = {name for name, p in student.base.named_parameters() if not torch.equal(p, before[name])}
    if method == "adapter":
        assert not changed
        assert all(parameter.abs().max() > 0 for parameter in student.adapter.parameters())
    else:
        assert changed
        assert all(".layer." in name for name in changed)
        assert not any(parameter.any() for parameter in student.adapter.parameters())
