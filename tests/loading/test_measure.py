"""Measuring a card, run on the CPU with little work: each table has its rows, and the file is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from planner.cards.read import card_of
from planner.cards.write import card_text
from planner.cli.main import run
from planner.device.mapped import copy_out
from planner.device.pinned import file_backed
from planner.host.packing import pack
from planner.loading.measure import files
from planner.loading.measure.card import Sizes, measure
from planner.source.text import SourceText

LITTLE = Sizes(
    copies=1 << 20,
    registered=1 << 20,
    files=1 << 20,
    lengths=(1, 16),
    widths=((32, 64), (64, 32)),
    convs=((1, 4, 8, 3, 0, 8, 8), (1, 4, 4, 3, 2, 8, 8), (1, 4, 4, 1, 0, 8, 8)),
    attentions=((1, 2, 16, 16, 8), (1, 1, 16, 8, 16)),
    memory=(1 << 15,),
    group_norms=((1, 64, 16),),
)


def test_everything_is_measured_and_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from planner.loading.measure import timing

    monkeypatch.setattr(timing, "AT_LEAST", 1e-4)
    said: list[str] = []
    values = measure(torch.device("cpu"), said.append, LITTLE)
    text = card_text(values)
    assert text == card_text(values)
    card, found = card_of(SourceText(name="x.card.yaml", text=text))
    assert not found
    assert card is not None
    assert {kind: set(tables) for kind, tables in card.rates.items()} == {
        "matmul": {"float16", "bfloat16", "float32"},
        "conv": {"float16", "bfloat16", "float32"},
        "attention": {"float16", "bfloat16", "float32"},
        "memory": {"bfloat16", "float32"},
        "group_norm": {"bfloat16", "float32"},
    }
    assert card.rates["matmul"]["bfloat16"].points[0][0] == (1, 1, 64, 32)
    assert card.rates["conv"]["float32"].points[1][0] == (1, 4, 4, 128, 27)
    assert card.source_of("memory.context") == "assumed", "no context of CUDA here"
    assert card.source_of("dispatch") == "measured"
    assert 0 < card.launch < 1e-2
    assert card.host is not None
    assert card.source_of("host") == "measured"
    assert {"memory", "link", "files", "host"} <= set(said)


def test_a_file_is_read_and_weights_are_packed_as_a_run_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    packed: list[tuple[int, int]] = []

    def copies(pairs: Any) -> None:
        pairs = list(pairs)
        assert file_backed(source.data_ptr() for source, _ in pairs)
        copy_out(pairs)
        assert all(torch.equal(a, b) for a, b in pairs)
        read.append(sum(a.numel() for a, _ in pairs))

    def packs(held: Any, pins: Any, owner: object) -> Any:
        made = pack(held, pins, owner)
        packed.append((len(held), 0 if made is None else made.numel()))
        return made

    monkeypatch.setattr(files, "copy_out", copies)
    monkeypatch.setattr(files, "pack", packs)
    found = files.host(torch.device("cpu"), 8 << 20)
    assert found is not None
    assert min(found["read"], found["pack"]) > 0
    assert read == [2 << 20] * files.SAMPLES + [8 << 20] * files.SAMPLES, "two sizes, for their difference"
    assert packed == [(8, 8 << 20)] * files.SAMPLES


def test_where_no_file_can_be_written_nothing_is_said_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryDirectory", full)
    assert files.host(torch.device("cpu"), 1 << 20) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.card.yaml"
    assert run(["doctor", "--measure", "--out", str(out)]) == 4
    assert "P973" in capsys.readouterr().out
    assert not out.exists()


def test_a_file_that_is_there_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.card.yaml"
    out.write_text("mine")
    assert run(["doctor", "--measure", "--out", str(out)]) == 2
    assert run(["doctor", "--measure", "--out", str(tmp_path / "no" / "x.yaml")]) == 2
    assert run(["doctor", "--out", str(out)]) == 2
    assert out.read_text() == "mine"
