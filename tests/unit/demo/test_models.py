# SPDX-License-Identifier: Apache-2.0
"""The shipped LLMs run, read and write as they were trained to, and are as good as their cards say."""

import re
from itertools import islice

import pytest

pytest.importorskip("openvino_genai", reason="install quorum[openvino]")

from demo_format import answer_json, bare_prompt
from listings import Mix, listings
from openvino_genai import Tokenizer
from score import ask_model, load_catalogue, load_rows, score, votes_table
from tokenizers import Tokenizer as TrainedTokenizer
from vocabulary import ATTRIBUTES, HERE

from quorum.build import read_manifest

MODELS = sorted(path.parent for path in (HERE / "models").glob("*/openvino_model.xml"))
TEXTS = [
    *(
        bare_prompt(ATTRIBUTES, listing.category, listing.title) + answer_json(ATTRIBUTES, listing.gold)
        for listing in islice(listings("tokens", Mix(typo=0.4)), 200)
    ),
    "Größe ÉTÉ № 5 – “quoted” ™",
    "日本語 シャツ 👟",
    "  a\tb\r\n\n c ",
]


def test_three_models_that_are_no_burden_to_clone():
    assert [folder.name for folder in MODELS] == ["demo-llama", "demo-qwen2", "demo-qwen3"]
    assert {read_manifest(folder).family for folder in MODELS} == {"llama", "qwen2", "qwen3"}
    assert sum(file.stat().st_size for folder in MODELS for file in folder.iterdir()) < 25_000_000


@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)
def test_served_tokens_are_the_trained_tokens(folder):
    trained, served = TrainedTokenizer.from_file(str(folder / "tokenizer.json")), Tokenizer(str(folder))
    for text in TEXTS:
        assert served.encode([text]).input_ids.data[0].tolist() == trained.encode(text).ids


@pytest.mark.slow
@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)
def test_accuracy_is_near_what_the_card_says(folder, monkeypatch):
    monkeypatch.setattr("score.SINGLE_COUNT", 1)  # its speed is not asked for here
    row = re.search(r"^\| ([\d.]+)% .*\| ([\d.]+)% \|$", (folder / "README.md").read_text(), re.MULTILINE)
    rows = load_rows()[:100]
    given = ask_model(folder, load_catalogue(), rows)
    found = score(votes_table(rows, {folder.name: given}), folder.name, given)
    assert found.unreadable == 0
    assert found.all == pytest.approx(float(row[2]) / 100, abs=0.05)
