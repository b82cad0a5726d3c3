"""Tokenizers where there are no files to read: as many tokens as words, padded as the pipeline asks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any


class Tokens(dict[str, Any]):
    """What a tokenizer returns."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error

    def to(self, *_: Any, **__: Any) -> Tokens:
        """Itself: it stays on the CPU."""
        return self


class StandInTokenizer:
    """One token a word. ``length``: tokens at most where the pipeline does not say; ``end``: the id that
    ends a text, by which some text models know their last token."""

    padding_side = "right"
    pad_token, bos_token, eos_token, unk_token = "<pad>", "<s>", "</s>", "<unk>"
    pad_token_id, bos_token_id = 0, 1
    added_tokens_encoder: dict[str, int] = {}  # noqa: RUF012  # read as the real one's attribute

    def __init__(self, length: int = 77, end: int = 2) -> None:
        self.model_max_length = length
        self.eos_token_id = end

    def __call__(
        self,
        text: str | Sequence[str],
        *_: Any,
        padding: Any = False,
        max_length: int | None = None,
        truncation: Any = False,
        return_tensors: str | None = None,
        **__: Any,
    ) -> Tokens:
        """Ids and attention mask, of shape (texts, tokens), int64."""
        import torch

        texts = [text] if isinstance(text, str) else list(text)
        most = max_length or self.model_max_length
        rows = [[*self.encode(one)[: most - 1], self.eos_token_id] for one in texts]
        width = most if padding == "max_length" else max(map(len, rows))
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = torch.tensor(row)
            mask[at, : len(row)] = 1
        return Tokens(input_ids=ids, attention_mask=mask)

    def encode(self, text: str, *_: Any, **__: Any) -> list[int]:
        """Ids of the words, after the one that begins a text."""
        words = re.findall(r"\w+|[^\w\s]", text)
        return [self.bos_token_id, *(3 + sum(map(ord, word)) % 400 for word in words)]

    def tokenize(self, text: str, *_: Any, **__: Any) -> list[str]:
        """Its words."""
        return re.findall(r"\w+|[^\w\s]", text)

    def batch_decode(self, ids: Any, *_: Any, **__: Any) -> list[str]:
        """Nothing, for each text."""
        return [""] * len(ids)

    def apply_chat_template(self, messages: Any, *_: Any, tokenize: bool = True, **more: Any) -> Any:
        """The messages' words."""
        text = str(messages)
        return self(text, **more) if tokenize else text
