"""Small real tokenizers, written as the files that ``from_pretrained`` reads: CLIP's BPE and T5's unigram.

They know the letters, all other bytes, and a few hundred words as prompts have them; every text has
an encoding. Nothing is trained, so the files are the same everywhere.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

_LINES = (
    "a an the of in on at by with and or no not is are to from under over near behind above into through",
    "cat dog bird horse fox wolf bear fish frog owl lion tiger whale dragon robot astronaut knight wizard",
    "woman man girl boy child person people portrait face eyes hair hand smile dress hat coat",
    "house castle city street tower bridge door window garden forest tree leaf flower rose grass field",
    "mountain hill river lake sea ocean beach island sky cloud rain snow storm fire smoke ice stone sand",
    "sun moon star stars night day dawn dusk morning evening summer winter spring autumn light shadow",
    "red green blue yellow orange purple pink black white grey brown gold silver dark bright warm cold",
    "car train ship boat bicycle aeroplane rocket space planet earth glass metal wood paper silk",
    "big small tiny giant old new young tall long round soft sharp clean wild calm quiet beautiful",
    "photo photograph picture painting drawing sketch watercolour oil ink pencil poster film still",
    "style detailed realistic abstract minimal vintage cinematic dramatic close wide shot view lens",
    "high low quality resolution blurry noise bad good best very highly lighting colour colours",
    "one two three four five six seven eight nine ten running walking sitting standing flying sleeping",
    "reading looking holding wearing playing dancing jumping swimming cooking table chair book cup tea",
    "coffee bread apple lamp clock map key ball box kitchen room floor wall music guitar piano",
)
WORDS = [word for line in _LINES for word in line.split()]

CLIP_SIZE = 77
"""Tokens: CLIP's text encoders have this many positions."""
START, END = "<|startoftext|>", "<|endoftext|>"
_SPACE = "\u2581"
_CLIP_SPLIT = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def clip_pieces() -> tuple[dict[str, int], list[str]]:
    """Vocabulary and merges, in CLIP's order: bytes, bytes that end a word, merges, the two special ones."""
    alphabet = list(_printable_bytes().values())
    ranks: dict[tuple[str, str], int] = {}
    for word in WORDS:
        parts = _merged([*word[:-1], word[-1] + "</w>"], ranks)
        while len(parts) > 1:  # a merge more, of the lowest rank: it changes no word before
            ranks[parts[0], parts[1]] = len(ranks)
            parts = _merged(parts, ranks)
    merges = [f"{left} {right}" for left, right in ranks]
    made = [left + right for left, right in ranks]
    tokens = dict.fromkeys([*alphabet, *(letter + "</w>" for letter in alphabet), *made, START, END])
    return {token: number for number, token in enumerate(tokens)}, merges


def unigram_pieces() -> list[tuple[str, float]]:
    """Pieces and their log-probabilities, after T5's special ones: a word is likelier than its letters."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), (_SPACE, -4.0)]
    pieces += [(_SPACE + word, -6.0) for word in dict.fromkeys(WORDS)]
    pieces += [(letter, -8.0) for letter in map(chr, range(33, 127))]
    return pieces


def write_clip(folder: Path) -> Path:
    """CLIP's tokenizer: ``vocab.json`` and ``merges.txt``, and the same as one ``tokenizer.json``."""
    vocab, merges = clip_pieces()
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": CLIP_SIZE, **special}
    _write(folder / "tokenizer_config.json", config)
    _write(folder / "special_tokens_map.json", special)
    _write(folder / "vocab.json", vocab)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    splits = {"type": "Split", "pattern": {"Regex": _CLIP_SPLIT}, "behavior": "Removed", "invert": True}
    content = {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "NFC"},
                {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
                {"type": "Lowercase"},
            ],
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [splits, _BYTES | {"add_prefix_space": False}],
        },
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [END, vocab[END]],
            "cls": [START, vocab[START]],
            "trim_offsets": False,
            "add_prefix_space": False,
        },
        "decoder": _BYTES,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": END,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "fuse_unk": False,
            "vocab": vocab,
            "merges": [merge.split(" ") for merge in merges],
        },
    }
    return _tokenizer(folder, content, {START: vocab[START], END: vocab[END]})


def write_t5(folder: Path, length: int) -> Path:
    """T5's tokenizer, as ``tokenizer.json``; ``length``: tokens, the longest prompt."""
    pieces = unigram_pieces()
    special = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    config = {"tokenizer_class": "T5TokenizerFast", "model_max_length": length, "extra_ids": 0, **special}
    _write(folder / "tokenizer_config.json", config | {"additional_special_tokens": []})
    _write(folder / "special_tokens_map.json", special)
    metaspace = {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": "always", "split": True}
    one = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]
    two = [*one, {"Sequence": {"id": "B", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]
    content = {
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": one,
            "pair": two,
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
        },
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 2, "vocab": [list(p) for p in pieces], "byte_fallback": False},
    }
    return _tokenizer(folder, content, {"<pad>": 0, "</s>": 1, "<unk>": 2})


_BYTES: dict[str, Any] = {
    "type": "ByteLevel",
    "add_prefix_space": True,
    "trim_offsets": True,
    "use_regex": True,
}


def _merged(parts: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """As BPE joins neighbours: the pair that was learned first, until none is left."""
    while True:
        pairs = [(ranks[pair], at) for at, pair in enumerate(pairwise(parts)) if pair in ranks]
        if not pairs:
            return parts
        _, at = min(pairs)
        parts = [*parts[:at], parts[at] + parts[at + 1], *parts[at + 2 :]]


def _printable_bytes() -> dict[int, str]:
    """The byte alphabet of GPT-2 and CLIP: a printable byte is itself, the others come from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    named = {byte: chr(byte) for byte in printable}
    return named | {byte: chr(256 + number) for number, byte in enumerate(others)}


def _tokenizer(folder: Path, content: dict[str, Any], special: dict[str, int]) -> Path:
    added = [
        {
            "id": number,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for token, number in sorted(special.items(), key=lambda item: item[1])
    ]
    head = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added}
    _write(folder / "tokenizer.json", head | content)
    return folder


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=False)
    path.write_text(text + "\n", encoding="utf-8")
