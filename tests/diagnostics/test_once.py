"""Findings of several plans: what they share is told once, with the plans that have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.cli.main import run

BASE = "version: 1\npipeline: StableDiffusionXLPipeline\norder: text_encodr -> unet -> vae\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("base.plan.yaml").write_text(BASE)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    run(["validate", *arguments])
    return capsys.readouterr().out


def test_a_fault_of_the_base_is_told_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "abcd":
        Path(f"{name}.plan.yaml").write_text("extends: base.plan.yaml\nidle: keep\n")
    out = said(capsys, ".")
    assert out.count("[P302 unknown-component]") == 1
    assert "in the plans a.plan.yaml, b.plan.yaml, base.plan.yaml and 2 more" in out


def test_one_plan_says_which_it_is(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.plan.yaml").write_text("extends: base.plan.yaml\n")
    out = said(capsys, "a.plan.yaml")
    assert "base.plan.yaml:3:8:" in out
    assert 'did you mean "text_encoder"?; in the plan a.plan.yaml' in out
    assert "in the plan" not in said(capsys, "base.plan.yaml")


def test_what_is_set_is_told_once_for_all_plans(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.plan.yaml").write_text("version: 1\npipeline: FluxPipeline\n")
    out = said(capsys, ".", "--set", "budget.vram=9")
    assert out.count("[P205 number-without-unit]") == 1
    assert "in the plans a.plan.yaml, base.plan.yaml" in out


def test_a_comment_of_use_to_one_child_is_of_use(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "order: text_encoder -> text_encoder_2 -> unet -> va  # plan: ignore[P302]\n"
    Path("base.plan.yaml").write_text(BASE.replace("order: text_encodr -> unet -> vae\n", line))
    Path("a.plan.yaml").write_text(
        "extends: base.plan.yaml\norder: text_encoder -> text_encoder_2 -> unet -> vae\n"
    )
    assert "unused-ignore" not in said(capsys, ".")
    assert "unused-ignore" in said(capsys, "a.plan.yaml")


def test_findings_are_sorted_by_place(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.plan.yaml").write_text(
        "version: 1\npipeline: FluxPipeline\nexclude: [y]\ncomponents: {x: stream}\norder: vae -> z\n"
    )
    import planner

    lines = [d.span.line for d in planner.validate("a.plan.yaml").errors if d.span]
    assert lines == sorted(lines)
    assert len(lines) == 3
