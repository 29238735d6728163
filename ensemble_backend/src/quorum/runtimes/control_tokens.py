# SPDX-License-Identifier: Apache-2.0
"""Keep control tokens such as ``<|endoftext|>`` out of prompts: a product's text must not end its turn."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# LLMs are trained on these even where their tokenizers and templates do not name them.
_COMMON = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    *("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<s>", "</s>"),
    *("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<start_of_turn>", "<end_of_turn>", "<think>", "</think>"),
)
_TEMPLATE_MARK = re.compile(r"""<[^<>\s'"{}%]+>|\[/?[A-Z_]+\]""")
_SPACES = " ▁"
_PASSES = 3


class ControlTokens:
    """The control tokens of a tokenizer, and those of the common chat formats.

    Args:
        special: Spellings that the tokenizer declares special.
        added: Spellings that it never splits. Only those with a letter or digit between marks count, as in
            ``<think>``: others are white space, or words of the model's field.
        chat_template: Jinja text whose marks, as in ``[INST]``, count too.
    """

    def __init__(
        self, special: Iterable[str | None], added: Iterable[str] = (), chat_template: str | None = None
    ) -> None:
        marked = [*_COMMON, *added, *_TEMPLATE_MARK.findall(chat_template or "")]
        spellings = {(spelling or "").strip(_SPACES) for spelling in special}
        spellings |= {spelling.strip(_SPACES) for spelling in marked if _is_marked(spelling.strip(_SPACES))}
        # A lone character is no more than the token of that character, and prompts have lines.
        self.spellings = frozenset(one for one in spellings if len(one) > 1 and not one.isspace())
        # A tokenizer may write spaces as U+2581.
        one = _alternatives({spelling.replace("▁", " ") for spelling in self.spellings})
        self._found = re.compile(one)
        self._runs = re.compile(f" *(?:{one} *)+")
        self._first = re.compile(f"[{re.escape(''.join({spelling[0] for spelling in self.spellings}))}]")

    def remove(self, prompt: str) -> str:
        """The prompt with one space, or at a line's edge none, for each run of control tokens.

        So it is the prompt of the text without them. A prompt that has none stays as it is, bit for bit.
        """
        if self._is_in(prompt):
            prompt = self._without(prompt)
        # Tokenizers that normalise look for some of their tokens only then.
        if not prompt.isascii() and self._is_in(plain := unicodedata.normalize("NFKC", prompt)):
            prompt = self._without(plain)
        return prompt

    def _is_in(self, prompt: str) -> bool:
        return self._found.search(prompt.replace("▁", " ")) is not None

    def _without(self, prompt: str) -> str:
        for _ in range(_PASSES):
            prompt = self._runs.sub(_gap, prompt.replace("▁", " "))
            if not self._found.search(prompt):
                return prompt
        # Nested ones: without their first characters none is left.
        return self._first.sub("", prompt)


def _is_marked(spelling: str) -> bool:
    return any(map(str.isalnum, spelling)) and not (spelling[0].isalnum() and spelling[-1].isalnum())


def _gap(run: re.Match[str]) -> str:
    text, start, end = run.string, run.start(), run.end()
    is_edge = start == 0 or end == len(text) or "\n" in (text[start - 1], text[end])
    return "" if is_edge else " "


def _alternatives(spellings: set[str]) -> str:
    """A pattern of the spellings, the longest first, which reads no character of a text twice."""
    rests: dict[str, set[str]] = {}
    for spelling in spellings - {""}:
        rests.setdefault(spelling[0], set()).add(spelling[1:])
    branches = [re.escape(first) + _alternatives(rest) for first, rest in sorted(rests.items())]
    if not branches:
        return ""
    return f"(?:{'|'.join(branches)})" + "?" * ("" in spellings)
