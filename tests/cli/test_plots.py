"""``--plot`` and ``--trace``: which files, and what is wrong with them before anything is done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from forecasts import forecast

from planner.cli.main import run
from planner.stages.results import Compiled

PLAN = """\
version: 1
pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}
budget: {vram: 8GiB}
run: {prompt: a cat, num_inference_steps: 2, height: 64, width: 64, seed: 3}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.plan.yaml").write_text(PLAN)
    return tmp_path


@pytest.fixture
def forecasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Compiled, "forecast", forecast(), raising=False)


@pytest.mark.usefixtures("forecasts")
def test_explain_draws_the_forecast(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["explain", "x.plan.yaml", "--card", "12GiB", "--plot", "x.html", "--trace", "x.json"]
    assert run(words) == 0
    out, err = capsys.readouterr()
    assert "denoise" in out
    assert err.splitlines()[-2:] == ["wrote x.html", "wrote x.json"]
    assert "budget 8.00 GiB" in (here / "x.html").read_text(encoding="utf-8")
    traced = json.loads((here / "x.json").read_text(encoding="utf-8"))
    assert traced["otherData"]["budget"] == 8 << 30
    counters = [e for e in traced["traceEvents"] if e["ph"] == "C" and e["name"] == "device"]
    assert [e["ts"] for e in counters] == [s.at for s in forecast().samples]


@pytest.mark.usefixtures("forecasts")
def test_a_file_that_is_there_stays(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "x.html").write_text("mine")
    assert run(["explain", "x.plan.yaml", "--card", "12GiB", "--plot", "x.html"]) == 2
    assert "P940" in capsys.readouterr().out
    assert (here / "x.html").read_text() == "mine"
    assert run(["explain", "x.plan.yaml", "--card", "12GiB", "--plot", "x.html", "--force"]) == 0
    assert (here / "x.html").read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.usefixtures("forecasts")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--plot", "x.pdf"], "P943"),
        (["--trace", "x.html"], "P943"),
        (["--plot", "no/x.html"], "P919"),
        (["--plot", "x.plan.yaml"], "P943"),
    ],
)
def test_names_are_judged_first(
    words: list[str], code: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["explain", "x.plan.yaml", "--card", "12GiB", *words]) != 0
    out = capsys.readouterr().out
    assert code in out
    assert "denoise" not in out
    assert [path.name for path in here.iterdir()] == ["x.plan.yaml"]


def test_without_a_forecast(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Compiled, "forecast", None, raising=False)
    assert run(["explain", "x.plan.yaml", "--card", "12GiB", "--plot", "x.html"]) == 4
    assert "P944" in capsys.readouterr().out
    assert not (here / "x.html").exists()
