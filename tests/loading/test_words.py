"""The built-ins' tokenizers, read by transformers as it reads real ones."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer, CLIPTokenizer, T5TokenizerFast

from planner.loading.words import WORDS, clip_pieces, unigram_pieces, write_clip, write_t5


def test_clip_knows_words_and_spells_the_rest(tmp_path: Path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(write_clip(tmp_path))
    vocab, _ = clip_pieces()
    start, *middle, end = tokenizer("A red cat").input_ids
    assert middle == [vocab["a</w>"], vocab["red</w>"], vocab["cat</w>"]]
    assert (
        (start, end) == (tokenizer.bos_token_id, tokenizer.eos_token_id) == (len(vocab) - 2, len(vocab) - 1)
    )
    odd = "xylophon \u00e9\u4e2d 42!"
    ids = tokenizer(odd).input_ids[1:-1]
    assert tokenizer.eos_token_id not in ids  # its unknown token: no byte is unknown
    assert len(tokenizer(odd, padding="max_length", truncation=True).input_ids) == 77
    assert all(len(tokenizer(word).input_ids) == 3 for word in WORDS)


def test_t5_knows_words_and_spells_the_rest(tmp_path: Path) -> None:
    folder = write_t5(tmp_path, 512)
    for cls in (T5TokenizerFast, AutoTokenizer):
        tokenizer = cls.from_pretrained(folder)
        pieces = [piece for piece, _ in unigram_pieces()]
        ids = tokenizer("a red cat").input_ids
        assert [pieces[i] for i in ids] == ["\u2581a", "\u2581red", "\u2581cat", "</s>"]
        assert 2 not in tokenizer("zebra, 42!").input_ids
        assert max(tokenizer(" ".join(WORDS)).input_ids) < len(pieces)
        assert tokenizer.model_max_length == 512
        assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1)
