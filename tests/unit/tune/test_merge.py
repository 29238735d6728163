# SPDX-License-Identifier: Apache-2.0
"""Merge adapters of a tiny random base: one at weight 1 stays as it is, and what PEFT garbles is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.checkpoints import write_checkpoint

from quorum.build.checkpoint import BuildError
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tune.adapter_rules import METHODS, PRUNING, MergeError, density_of, read_all, weights_of
from quorum.tune.card import Card, CardError, write_card
from quorum.tune.loop import TrainingError
from quorum.tune.tuned_on import question_hash, read_tuned_on, write_tuned_on

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CATALOGUE = Catalogue.of([Attribute("color"), Attribute("grade", values=("good", "bad"), kind="label")])
pytestmark = pytest.mark.torch


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """PyTorch takes seconds to import: not in every process that collects these tests."""
    global torch, transformers, peft, merge
    torch = pytest.importorskip("torch", reason="PyTorch is not installed here: run `make setup-hf`")
    transformers = pytest.importorskip("transformers", reason="run `make setup-hf`")
    peft = pytest.importorskip("peft", reason="run `make setup-hf`")
    from quorum.tune.merge import merge


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("bases") / "tiny")


def write_adapter(folder: Path, base: Path, seed: int, **config: Any) -> Path:
    """A LoRA adapter with random weights, large enough to change answers."""
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    given = {"r": 8, "lora_alpha": 16, "target_modules": MODULES, **config}
    adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **given))
    torch.manual_seed(seed)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    adapted.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pair(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return write_adapter(folder / "a", base, 1), write_adapter(folder / "b", base, 2)


def logits(base: Path, adapter: Path | None) -> Any:
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter:
        model = peft.PeftModel.from_pretrained(model, str(adapter))
    with torch.inference_mode():
        return model.eval()(torch.arange(1, 40).reshape(1, -1)).logits


@pytest.mark.parametrize("method", METHODS)
def test_one_adapter_at_weight_one_gives_its_own_logits(
    method: str, base: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    density = 1.0 if method in PRUNING else None
    merge(pair, base, tmp_path / "m", method, (1.0, 0.0), density)
    ours, alone = logits(base, tmp_path / "m"), logits(base, pair[0])
    assert (alone - logits(base, None)).abs().max() > 1
    difference = (ours - alone).abs().max()
    if method in ("ties", "dare_ties"):
        # They average over the adapters that agree in sign, also over one of weight 0.
        assert difference > 1e-2
    else:
        assert difference < 1e-4


def test_cat_and_svd_add_up_the_updates(base: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
    merge(pair, base, tmp_path / "cat", "cat", (0.5, 0.25))
    plain, updates = weights_with(base, None), [weights_with(base, path) for path in pair]
    found = weights_with(base, tmp_path / "cat")
    for name in plain:
        wanted = 0.5 * (updates[0][name] - plain[name]) + 0.25 * (updates[1][name] - plain[name])
        assert torch.allclose(found[name] - plain[name], wanted, atol=1e-5)


def weights_with(base: Path, adapter: Path | None) -> Mapping[str, Any]:
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter:
        model = peft.PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    return {name: p.detach().clone() for name, p in model.named_parameters() if "_proj" in name}


def test_the_seed_decides_what_dare_drops(base: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        merge(pair, base, tmp_path / name, "dare_linear", density=0.5, seed=seed)
    one, same, other = (logits(base, tmp_path / name) for name in ("one", "same", "other"))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_merged_adapter_was_tuned_on_what_each_was(
    base: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    adapters = [Path(shutil.copytree(path, tmp_path / path.name)) for path in pair]
    for folder in adapters:
        hashes = {question_hash("color", folder.name), question_hash("color", "both")}
        write_tuned_on(folder, hashes)
        described = {"base": "tiny", "base_hash": "", "tuned_on": "tuned_on.txt"}
        write_card(Card(tasks=("color",), method="lora", architecture="causal", **described), folder)
    assert merge(adapters, base, tmp_path / "m", "linear").tuned_on == "tuned_on.txt"
    assert read_tuned_on(tmp_path / "m") == {question_hash("color", text) for text in ("a", "b", "both")}


def test_the_folder_is_an_adapter_and_has_a_card(base: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
    card = merge(pair, base, tmp_path / "m", "linear", seed=3)
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "card.json",
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    written = json.loads((tmp_path / "m" / "card.json").read_text())
    assert written["method"] == card.method == "linear"
    assert written["settings"]["weights"] == [0.5, 0.5]
    assert written["settings"]["adapters"] == ["a", "b"]
    with pytest.raises(MergeError, match="exists already; name another folder"):
        merge(pair, base, tmp_path / "m", "linear")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"use_rslora": True}, "use_rslora is True.*rsLoRA"),
        ({"use_dora": True}, "use_dora is True.*magnitudes"),
        ({"bias": "lora_only"}, "bias is 'lora_only'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save.*whole layers"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 4}}, "alpha_pattern"),
        ({"init_lora_weights": "pissa"}, "changes the base's own weights.*convert it to plain LoRA"),
        ({"kasa_config": {"beta": 1}}, "kasa_config.*not plain LoRA"),
        ({"target_modules": "all-linear"}, "name the modules in a list"),
        ({"r": 16}, "this method needs equal ranks, cat and svd do not"),
        ({"target_modules": ["q_proj"]}, "this method needs equal target_modules, cat and svd do not"),
        ({"base_model_name_or_path": "other/model"}, "trained on .*merge adapters of one base only"),
        ({"layers_to_transform": [0]}, "PEFT would apply the first one's to both"),
    ],
)
def test_what_would_be_merged_wrongly_is_refused_before_the_base_is_loaded(
    changed: dict[str, Any],
    message: str,
    base: Path,
    pair: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        transformers.AutoModelForCausalLM,
        "from_pretrained",
        lambda *_, **__: pytest.fail("the base is loaded"),
    )
    other = copy_with(pair[1], tmp_path / "other", changed)
    with pytest.raises(MergeError, match=message):
        merge([pair[0], other], base, tmp_path / "m", "linear")
    assert not (tmp_path / "m").exists()


def copy_with(adapter: Path, folder: Path, changed: Mapping[str, Any]) -> Path:
    folder.mkdir()
    config = json.loads((adapter / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | changed))
    (folder / "adapter_model.safetensors").write_bytes((adapter / "adapter_model.safetensors").read_bytes())
    return folder


def test_bases_are_compared_by_the_hashes_of_cards(
    base: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    copy = copy_with(pair[0], tmp_path / "copy", {"base_model_name_or_path": "/home/me/renamed"})
    other = copy_with(pair[1], tmp_path / "other", {})
    for folder in (copy, other):
        write_card(card_of("sha256:1"), folder)
    assert len(read_all([copy, other], base, "cat")) == 2
    write_card(card_of("sha256:2"), other)
    with pytest.raises(MergeError, match="merge adapters of one base only"):
        read_all([copy, other], base, "cat")


def card_of(base_hash: str, **more: Any) -> Card:
    return Card(tasks=("grade",), method="lora", architecture="causal", base="b", base_hash=base_hash, **more)


def test_a_card_with_other_prompts_and_damaged_weights_are_named(
    base: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    other = copy_with(pair[1], tmp_path / "other", {})
    write_card(card_of("", prompts={"style": 3}), other)
    with pytest.raises(CardError, match=r"card\.json cannot be read"):
        merge([pair[0], other], base, tmp_path / "m", "cat")
    (other / "card.json").unlink()
    damaged = Path(shutil.copytree(base, tmp_path / "base"))
    (damaged / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(BuildError, match=r"model\.safetensors: not a safetensors file"):
        merge([pair[0], other], damaged, tmp_path / "m", "cat")
    with pytest.raises(TrainingError, match="--seed 4294967296: give a number"):
        merge(pair, base, tmp_path / "m", "cat", seed=2**32)
    assert not (tmp_path / "m").exists()


def test_the_ranks_of_cat_add_up_to_what_can_be_served(base: Path, pair: tuple[Path, Path]) -> None:
    assert len(read_all(pair * 4, base, "cat")) == 8
    with pytest.raises(MergeError, match=r"add up to 72.*use svd"):
        read_all([*pair * 4, pair[0]], base, "cat")


@pytest.mark.parametrize(
    ("given", "message"),
    [((1.0,), "names 1 weights for 2"), ((0, 0), "not all"), ((1, float("nan")), "numbers")],
)
def test_weights_are_checked(given: Sequence[float], message: str) -> None:
    with pytest.raises(MergeError, match=message):
        weights_of(given, 2)


def test_density_is_for_methods_that_drop_weights() -> None:
    assert density_of(None, "ties") == 0.5
    assert density_of(None, "cat") is None
    with pytest.raises(MergeError, match="leave it out"):
        density_of(0.5, "svd")
    with pytest.raises(MergeError, match="above 0"):
        density_of(0.0, "ties")
