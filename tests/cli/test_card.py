"""Explain and apply tell one story: the card is in the head line, and the peaks are the same."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from covering import covering

import planner
from planner.cli.main import run
from planner.plan.model import Amount, Budget
from planner.schedule import card as rules
from planner.schedule.card import SIMULATED, Card, imagined

PLANS = sorted((Path(__file__).parents[2] / "plans").glob("*.plan.yaml"))
BUDGETS: list[list[str]] = [[], ["--set", "budget.vram=6MiB"], ["--set", "budget.vram=50%"]]
BUDGETS += [["--set", "budget.leave_free=79.995GiB"], ["--set", "idle=keep"]]
READY = [p for p in PLANS if ".png" not in p.read_text(encoding="utf-8")]
"""Those whose run reads no picture: a dry run wants it to be there."""
TINY = [p for p in PLANS if p.name.startswith(("quickstart", "tiny"))]


def picture(shown: str) -> list[str]:
    """The rows of the table of stages, and the budget."""
    rows = re.findall(r"^  \S.*?(?:\d|\?)\.?\d*(?: +< peak)?$", shown, re.M)
    return [*re.findall(r"^budget.*$", shown, re.M), *(r for r in rows if "host RAM" not in r)]


@pytest.mark.parametrize("path", TINY, ids=lambda p: p.name)
@pytest.mark.parametrize("options", BUDGETS, ids=" ".join)
def test_explain_and_a_simulation_name_the_same_peaks(path: Path, options: list[str], capsys: Any) -> None:
    one = run(["explain", str(path), *options])
    explained = capsys.readouterr().out
    assert run(["apply", str(path), "--simulate", "--dry-run", *options]) == one
    applied = capsys.readouterr().out
    assert picture(explained) == picture(applied)
    assert bool(picture(explained)) is (one == 0)
    assert one or "no card found here" in explained


@pytest.mark.parametrize(
    ("size", "path"),
    covering(["12GiB", "24GB", "80GiB"], READY),
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_the_same_card_gives_the_same_everywhere(path: Path, size: str, capsys: Any) -> None:
    shown = []
    for verb in (["explain"], ["apply", "--dry-run"]):
        assert run([verb[0], str(path), *verb[1:], "--card", size]) == 0
        out = capsys.readouterr().out
        assert re.search(r"^device +--card, ", out, re.M)
        shown.append(picture(out))
    assert shown[0] == shown[1] != []
    assert run(["validate", str(path), "--card", size]) == 0
    assert run(["compile", str(path), "--card", size]) == 0
    assert "--card, " in capsys.readouterr().out


def test_a_card_that_is_too_small_is_an_error_of_every_verb(capsys: Any) -> None:
    path = str(TINY[0])
    for verb in (["explain"], ["validate"], ["compile"], ["apply", "--dry-run"]):
        assert run([verb[0], path, *verb[1:], "--card", "1GiB"]) == 1
        assert "P601" in capsys.readouterr().out


@pytest.mark.parametrize("size", ["12", "50%", "-1GiB", "0GiB", "12 gigs", ""])
def test_a_card_is_a_size(size: str, capsys: Any) -> None:
    assert run(["explain", str(TINY[0]), "--card", size]) == 2
    assert "such as 12GiB" in capsys.readouterr().out


def test_a_run_has_the_card_that_is_there(capsys: Any) -> None:
    assert run(["apply", str(TINY[0]), "--simulate", "--card", "12GiB"]) == 2


def test_the_rules_are_those_of_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    from planner.session import machine
    from planner.virtual.device import SimDevice
    from planner.virtual.memory import TOTAL

    assert SIMULATED.total == TOTAL
    there = 12 << 30
    free = there - rules.CONTEXT - (100 << 20)
    fake = SimpleNamespace(
        mem_get_info=lambda device: (free, there),
        memory_reserved=lambda device: 50 << 20,
        get_device_name=lambda device: "a card",
    )
    SimDevice()
    monkeypatch.setattr(torch, "get_device_module", lambda device: fake)
    for said in (
        [],
        ["budget.vram=6GiB"],
        ["budget.vram=50%"],
        ["budget.vram=100GiB"],
        ["budget.leave_free=2GiB"],
    ):
        plan = planner.load(TINY[0], overrides=said)
        for device in map(torch.device, ("cuda:0", "xpu:0")):
            want, notes = machine.room(plan, device)
            want = want.beside(10 << 30)
            got, more = machine.card_on(device).room(plan, 10 << 30)
            assert (got.budget, got.overhead) == (want.budget, want.overhead)
            assert [d.message for d in more] == [d.message for d in notes]
    nowhere = planner.load(TINY[0]).span
    nothing = replace(planner.load(TINY[0]), budget=Budget(vram=Amount(text="0B", bytes=0, span=nowhere)))
    assert machine.room(nothing, torch.device("cuda:0"))[0].budget == 0
    free = 0
    full = planner.load(TINY[0], overrides=["budget.leave_free=8GiB"])
    assert machine.room(full, torch.device("cuda:0"))[0].budget == 0


def test_a_card_that_does_not_say_what_it_has_limits_nothing() -> None:
    plan = planner.load(TINY[0])
    unknown = Card(name="mps:0", total=None, free=None)
    assert unknown.room(plan, 0)[0].budget is None
    assert replace(imagined(1 << 30), left=0).room(plan, 0)[0].budget == 1 << 30
