# SPDX-License-Identifier: Apache-2.0
"""The ends of tokens, on tokenizers of all families, against the decoding of every prefix."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from quorum.runtimes.offsets import TokenEnds

DEMO = sorted((Path(__file__).parents[3] / "examples" / "demo" / "models").glob("*/tokenizer.json"))
TEXTS = [
    '{"brand":"Größe №5","color":"navy blue","size":"n/a","note":"👟👟 日本語 don\'t"}',
    ' {"a": "x , y.", "b": "it is n\'t é̂"}\n\t ok ',
    "é",
    "👟",
    "a",
    "größe größe",
]


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, special_tokens=["<|end|>"])
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return tokenizer


def sentence_piece() -> Tokenizer:
    """As Llama 2 and Mistral have it: a leading space that is dropped, bytes for what has no token."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words += ["▁", "▁{", *'{}":,."', *"abcdefghijklmnopqrstuvwxyz"]
    merges: list[tuple[str, str]] = [('"', ":"), (":", '"'), ("▁", "a"), ("a", "v"), ("n", "a")]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys([*words, *map("".join, merges)]))}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer


def metaspace() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    alphabet = sorted({character for text in TEXTS for character in text})
    trainer = trainers.UnigramTrainer(
        vocab_size=120, initial_alphabet=alphabet, special_tokens=["<unk>"], unk_token="<unk>"
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return tokenizer


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=["[UNK]", "[SEP]"])
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return tokenizer


FAMILIES: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": byte_level, "sentence-piece": sentence_piece, "metaspace": metaspace,
    "word-piece": word_piece,
    **{file.parent.name: lambda file=file: Tokenizer.from_file(str(file)) for file in DEMO},  # type: ignore[misc]
}  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return FAMILIES[request.param]()


def expected(decode: Callable[[Sequence[int]], str], tokens: Sequence[int]) -> list[int]:
    """The longest start of the text that the tokens up to each alone give."""
    text, ends, best = decode(tokens), [], 0
    for count in range(1, len(tokens) + 1):
        prefix = decode(tokens[:count])
        same = next((i for i, (a, b) in enumerate(zip(prefix, text, strict=False)) if a != b), None)
        best = max(best, min(len(prefix), len(text)) if same is None else same)
        ends.append(best)
    return ends


class Counted:
    """A decoder that counts its calls."""

    def __init__(self, tokenizer: Any) -> None:
        self.calls, self._tokenizer = 0, tokenizer

    def __call__(self, lists: list[list[int]]) -> list[str]:
        self.calls += 1
        return [self._tokenizer.decode(tokens, skip_special_tokens=True) for tokens in lists]

    def one(self, tokens: Sequence[int]) -> str:
        return self([list(tokens)])[0]


def test_ends_are_those_of_the_prefixes(tokenizer: Tokenizer) -> None:
    decode = Counted(tokenizer)
    ends = TokenEnds(decode)
    for _ in range(2):
        for text in TEXTS:
            tokens = tokenizer.encode(text, add_special_tokens=False).ids
            assert ends.find(tokens, decode.one(tokens)) == expected(decode.one, tokens), text


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_tokens_have_the_ends_of_their_prefixes(tokenizer: Tokenizer, data: st.DataObject) -> None:
    """Also special tokens, and bytes that are no characters."""
    decode = Counted(tokenizer)
    ends = TokenEnds(decode)
    ids = st.lists(st.integers(0, tokenizer.get_vocab_size() - 1), max_size=12)
    for tokens in data.draw(st.lists(ids, min_size=1, max_size=3)):
        assert ends.find(tokens, decode.one(tokens)) == expected(decode.one, tokens)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text(max_size=4), st.text(max_size=12), min_size=1, max_size=3))
def test_an_answer_ends_where_its_last_token_does(tokenizer: Tokenizer, answer: dict[str, str]) -> None:
    tokens = tokenizer.encode(json.dumps(answer, ensure_ascii=False), add_special_tokens=False).ids
    text = Counted(tokenizer).one(tokens)
    found = TokenEnds(Counted(tokenizer)).find(tokens, text)
    assert found == sorted(found)
    assert found[-1:] == [len(text)]


def test_known_tokens_are_not_decoded_again(tokenizer: Tokenizer) -> None:
    decode = Counted(tokenizer)
    ends = TokenEnds(decode)
    plain = '{"brand":"n/a","color":"n/a"}'
    tokens = tokenizer.encode(plain, add_special_tokens=False).ids
    text = decode.one(tokens)
    ends.find(tokens, text)
    before = decode.calls
    ends.find(tokens, text)
    assert decode.calls == before


def test_a_character_of_several_tokens_ends_with_the_last() -> None:
    tokenizer = Tokenizer.from_file(str(DEMO[0]))
    decode = Counted(tokenizer)
    tokens = tokenizer.encode('"№"', add_special_tokens=False).ids
    assert len(tokens) == 5
    ends = TokenEnds(decode)
    assert ends.find(tokens, '"№"') == [1, 1, 1, 2, 3]
    before = decode.calls
    assert ends.find(tokens, '"№"') == [1, 1, 1, 2, 3]
    assert decode.calls == before


def test_a_text_of_other_tokens_has_no_ends() -> None:
    tokenizer = Tokenizer.from_file(str(DEMO[0]))
    tokens = tokenizer.encode("navy blue", add_special_tokens=False).ids
    ends = TokenEnds(Counted(tokenizer))
    assert ends.find(tokens, "navy blues") == []
    assert ends.find([], "") == []
    assert ends.find(tokens, "navy blue")[-1] == 9


def test_a_tokenizer_that_needs_every_prefix_is_given_up() -> None:
    calls = 0

    def decode(lists: list[list[int]]) -> list[str]:
        nonlocal calls
        calls += 1
        # What a token reads depends on how many there are: no piece can be kept.
        return ["".join(chr(96 + len(tokens)) for _ in tokens) for tokens in lists]

    ends = TokenEnds(decode)
    for _ in range(30):
        ends.find([1, 2, 3], "ccc")
    before = calls
    assert ends.find([1, 2, 3], "ccc") == []
    assert calls - before <= 2


def test_an_empty_answer_decodes_nothing() -> None:
    decode = Counted(Tokenizer.from_file(str(DEMO[0])))
    assert TokenEnds(decode).find([0] * 500, "") == [0] * 500
    assert decode.calls == 0
