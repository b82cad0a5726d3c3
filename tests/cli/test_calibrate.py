"""``plan apply --calibrate``: what a run measured is what the next prediction says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner.cli.main import run

PLAN = str(Path(__file__).parents[2] / "plans" / "quickstart.plan.yaml")
SMALL = [x for key in ("num_inference_steps=2", "height=64", "width=64") for x in ("--set", f"run.{key}")]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache but for the built-in pipeline, which need not be made again."""
    from planner.loading.cache import home

    known = home() / "builtin"
    monkeypatch.setenv("OFFLOAD_PLANNER_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    if known.is_dir():
        (tmp_path / "home" / "builtin").symlink_to(known)
    return tmp_path / "home" / "calibrations"


def calibrate(tmp_path: Path, *more: str) -> int:
    return run(["apply", PLAN, "--simulate", "--calibrate", "--out", str(tmp_path / "x.png"), *SMALL, *more])


def test_the_next_prediction_is_by_what_was_measured(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate(tmp_path) == 0
    (kept,) = home.iterdir()
    out = capsys.readouterr().out
    assert kept.name in "".join(out.split())
    said = json.loads(kept.read_text())
    assert said["card"] == "sim:0"
    assert {use[0] for use in said["uses"]} == {"text_encoder", "text_encoder_2", "unet", "vae"}
    assert {use[2] for use in said["uses"]} == {said["link"]} == {None}
    assert run(["explain", PLAN, "--activations", *SMALL]) == 0
    assert capsys.readouterr().out.count("bytes as measured") == 4
    assert run(["explain", PLAN, "--activations", "--card", "h200", *SMALL]) == 0
    assert "as measured" not in capsys.readouterr().out
    assert (
        run(["validate", PLAN, "--activations", *SMALL]) == 0
    )  # the verdict on a plan is of no machine's cache
    capsys.readouterr()
    assert calibrate(tmp_path, "--force") == 0  # against what was predicted first, not against itself
    again = json.loads(kept.read_text())
    assert [use[3] for use in again["uses"]] == pytest.approx([use[3] for use in said["uses"]], rel=1e-3)


@pytest.mark.wide
def test_a_file_that_is_broken_is_told_and_written_anew(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate(tmp_path) == 0
    (kept,) = home.iterdir()
    kept.write_text(kept.read_text()[:40])
    capsys.readouterr()
    assert run(["explain", PLAN, "--activations", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "P974" in out
    assert "as measured" not in out
    assert calibrate(tmp_path, "--force") == 0
    assert json.loads(kept.read_text())["form"] == 1


def test_a_call_that_cannot_be_traced_is_told(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object, **__: object) -> None:
        raise RuntimeError("flex_attention without torch.compile")

    monkeypatch.setattr("planner.cli.apply.foretold", none)
    assert calibrate(tmp_path) == 0
    out = capsys.readouterr().out
    assert "P975" in out
    assert "flex_attention" in out
    assert not home.exists()


@pytest.mark.wide
def test_a_cache_that_cannot_be_written_is_told(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.write_text("a file where the folder should be")
    assert calibrate(tmp_path) == 0
    assert "P975" in capsys.readouterr().out
