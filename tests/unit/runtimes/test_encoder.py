# SPDX-License-Identifier: Apache-2.0
"""The runtime of encoders answers, on networks that answer by a table of words."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from support.encoder_members import (
    CATALOGUE,
    SHADES,
    ask,
    close_to,
    settings,
)
from support.encoders import write_encoder

from quorum.runtimes import create
from quorum.runtimes.base import RuntimeConfigError, RuntimeSettings
from quorum.runtimes.options import EncoderOptions
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.parse import Vote
from quorum_contract import Status
from quorum_contract.fields import join_fields


def test_a_label_has_the_logarithm_of_its_softmax(start_encoder: Any, encoder_engine: str) -> None:
    (vote,) = ask(start_encoder("label", engine=encoder_engine), "a dark scarlet case", "shade")
    assert vote == Vote("red", Status.ANSWERED, close_to(3 - math.log(math.exp(3) + 1)))
    (unsure,) = ask(start_encoder("label", engine=encoder_engine), "???", "shade")
    assert unsure.score == close_to(math.log(0.5))


def test_spans_are_words_of_the_text_with_types(start_encoder: Any, encoder_engine: str) -> None:
    (vote,) = ask(start_encoder("spans", engine=encoder_engine), "  Dark  RED case for red", "entities")
    assert vote.value == '[["Dark RED","color"],["case","core"],["red","color"]]'
    assert vote.score == close_to(5 * (9 - math.log(math.exp(9) + 4)))


def test_a_value_is_cut_out_of_the_text_or_is_not_there(start_encoder: Any, encoder_engine: str) -> None:
    runtime = start_encoder("value", engine=encoder_engine)
    brand, size = ask(runtime, "drill by Acme power Grip here", "brand", "size")
    assert (brand.value, brand.status) == ("acme power grip", Status.ANSWERED)
    assert size == Vote("", Status.UNPARSABLE)
    assert ask(runtime, "a drill", "brand")[0].value == "n/a"
    assert ask(runtime, "shirt M", "size")[0].value == "m"
    assert -1 < brand.score < 0


def test_what_the_catalogue_does_not_allow_is_unparsable(start_encoder: Any) -> None:
    assert ask(start_encoder("value"), "shirt XL", "size") == [Vote("", Status.UNPARSABLE)]


def test_other_attributes_are_not_asked(start_encoder: Any) -> None:
    runtime = start_encoder("label")
    assert ask(runtime, "red", "brand", "unknown") == [Vote("", Status.NOT_ASKED)] * 2
    votes = ask(runtime, "red", "brand", "shade", "shade")
    assert [vote.status for vote in votes] == [Status.NOT_ASKED, Status.ANSWERED, Status.ANSWERED]


def test_scores_can_be_left_out(start_encoder: Any) -> None:
    assert ask(start_encoder("label", scores=False), "red", "shade") == [Vote("red", Status.ANSWERED)]


def test_bf16_and_int8_answer_alike(start_encoder: Any) -> None:
    pytest.importorskip("onnxruntime")
    for options in ({"precision": "bf16"}, {"engine": "onnxruntime", "precision": "int8"}):
        (vote,) = ask(start_encoder("label", **options), "a dark scarlet case", "shade")
        assert vote.value == "red"
        assert vote.score == pytest.approx(-0.0486, abs=0.01)


@pytest.mark.parametrize(
    "text",
    ["", "   ", "\n", "\u200b", "🙂 e\u0301 ﬁ ß \U0001f468\u200d\U0001f469", "\x00\x07", "red" * 9000,
     "red " * 9000, "[CLS] [SEP] [PAD]", "\u202ered"],
)  # fmt: skip
@pytest.mark.parametrize(
    ("model", "attribute"), [("label", "shade"), ("spans", "entities"), ("value", "brand")]
)
def test_any_text_gets_one_vote(start_encoder: Any, model: str, attribute: str, text: str) -> None:
    (vote,) = ask(start_encoder(model), text, attribute)
    assert vote.status in (Status.ANSWERED, Status.UNPARSABLE)
    assert vote.score is None or (math.isfinite(vote.score) and vote.score <= 0)


def test_offsets_are_of_characters(start_encoder: Any) -> None:
    (vote,) = ask(start_encoder("spans"), "😀😀 ß dark red ﬁ case", "entities")
    assert vote.value == '[["dark red","color"],["case","core"]]'
    (vote,) = ask(start_encoder("value"), "😀😀 ß Acme grip ﬁ", "brand")
    assert vote.value == "acme grip"


def test_what_lies_behind_the_longest_input_is_not_read(start_encoder: Any) -> None:
    text = "for " * 40 + "dark red case"
    assert ask(start_encoder("spans"), text, "entities")[0].value == "[]"
    assert ask(start_encoder("spans", max_tokens=8), "for for dark red case case case case", "entities")[
        0
    ].value == ('[["dark red","color"],["case","core"],["case","core"]]')


def test_a_pair_of_fields_is_read_as_the_tokenizer_pairs_them(encoders: Path, tmp_path: Path) -> None:
    fields = ("query", "title")
    catalogue = Catalogue.of(
        [Attribute("shade", values=("red", "blue"), kind="label", allow_na=False, fields=fields)]
    )
    write_encoder(
        tmp_path / "pair", "label", SHADES, catalogue, ["shade"], ["red", "blue"], fields=list(fields)
    )
    runtime = create(settings(tmp_path, "pair", catalogue))
    text = join_fields({"query": "blue", "title": "dark blue case"})
    (vote,) = ask(runtime, text, "shade")
    runtime.close()
    assert vote == Vote("blue", Status.ANSWERED, close_to(8 - math.log(math.exp(8) + 1)))


def test_the_network_may_be_a_model_of_triton(encoders: Path) -> None:
    asked: list[tuple[Any, ...]] = []
    own = create(settings(encoders, "label"))

    def infer(model: str, inputs: Any, outputs: Any, number: str) -> dict[str, Any]:
        asked.append((model, sorted(inputs), tuple(outputs), number))
        return {"logits": own._compute(inputs["input_ids"], inputs["attention_mask"])}

    chosen = EncoderOptions(model="label", triton=True)
    assert not chosen.isolated
    with pytest.raises(RuntimeConfigError, match="inside Triton only"):
        create(RuntimeSettings("small", encoders, chosen, catalogue=CATALOGUE))
    runtime = create(RuntimeSettings("small", encoders, chosen, infer=infer, catalogue=CATALOGUE))
    (vote,) = ask(runtime, "red", "shade")
    runtime.close()
    own.close()
    assert vote.value == "red"
    assert asked == [("quorum_encoder_small", ["attention_mask", "input_ids"], ("logits",), "small-1")]
