# SPDX-License-Identifier: Apache-2.0
"""Convert between prompts and tokens, by a checkpoint's tokenizer and chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import AutoTokenizer, GenerationConfig

from quorum.runtimes.control_tokens import ControlTokens


class ChatTokenizer:
    """The tokenizer of a folder or Hugging Face id (OSError if it has none), or a loaded one.

    ``chat`` says whether to apply the chat template; ``None``: if there is one. ``revision`` is a commit,
    branch or tag of an id.
    """

    def __init__(self, model: Any, chat: bool | None = None, revision: str | None = None) -> None:
        if isinstance(model, str):
            model = AutoTokenizer.from_pretrained(model, revision=revision or "main")
        self._tokenizer = model
        self._chat = bool(self._tokenizer.chat_template) if chat is None else chat
        added = getattr(self._tokenizer, "added_tokens_decoder", {}).values()
        self._controls = ControlTokens(
            [*self._tokenizer.all_special_tokens, *(token.content for token in added if token.special)],
            (token.content for token in added),
            _template_text(self._tokenizer.chat_template) if self._chat else None,
        )

    @property
    def applies_template(self) -> bool:
        """Whether prompts get the chat template."""
        return self._chat

    @property
    def end(self) -> int | None:
        """The token that ends an answer."""
        token: int | None = self._tokenizer.eos_token_id
        return token

    def encode(self, prompt: str) -> list[int]:
        """Token ids of the prompt, with the chat template where configured.

        The prompt's own control tokens are removed: only the template and the tokenizer add some.
        """
        prompt = self._controls.remove(prompt)
        if not self._chat:
            return list(self._tokenizer(prompt)["input_ids"])
        # Templates of reasoning models use enable_thinking; others ignore it.
        text = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        # The template has the special tokens already.
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode_answer(self, answer: str) -> list[int]:
        """Token ids of an answer behind a prompt, without the token that ends it: for training."""
        return list(self._tokenizer(self._controls.remove(answer), add_special_tokens=False)["input_ids"])

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of an answer's tokens, without special ones."""
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text

    def decode_all(self, lists: list[list[int]]) -> list[str]:
        """The text of each of several answers, as :meth:`decode` gives it."""
        return [self.decode(tokens) for tokens in lists]


def end_tokens(model: str, revision: str | None = None) -> tuple[int, ...]:
    """Tokens that end an answer, by the ``generation_config.json`` of a folder or Hugging Face id.

    Checkpoints have several where a turn ends otherwise than a text does, as those of Llama 3;
    none without that file.
    """
    try:
        ends = GenerationConfig.from_pretrained(model, revision=revision or "main").eos_token_id
    except OSError:
        return ()
    return tuple(ends) if isinstance(ends, list) else () if ends is None else (ends,)


def further_ends(tokenizer: ChatTokenizer, *models: str, revision: str | None = None) -> list[int]:
    """Tokens that end an answer besides the tokenizer's own, by :func:`end_tokens` of these, sorted."""
    ends = {end for model in models for end in end_tokens(model, revision)}
    return sorted(ends - {tokenizer.end})


def _template_text(template: Any) -> str | None:
    """The chat template as text, of all names where it has several."""
    return "\n".join(template.values()) if isinstance(template, dict) else template
