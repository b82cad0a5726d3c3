"""The recipes fit the cards that they are for, and their figures are those that ``plan explain`` prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from blocks import blocks
from hollow import hollow_flux

import planner
from planner.cli.main import run
from planner.docs.pages import FOLDER
from planner.schedule.card import imagined

TEXT = (FOLDER / "recipes.md").read_text("utf-8")
RECIPES = {block.file: block.text for block in blocks(TEXT) if block.file}
GIB = 1 << 30
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hollow_flux(tmp_path_factory.mktemp("flux") / "flux")


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("flux")])
def test_a_recipe_fits_its_card(name: str, flux: Path, tmp_path: Path) -> None:
    size = 12 if "ram" in name else int(name.split("-")[1].split("gb")[0])
    path = tmp_path / name
    path.write_text(RECIPES[name].replace("black-forest-labs/FLUX.1-dev", str(flux)), encoding="utf-8")
    result = planner.validate(path, card=imagined(size * GIB))
    assert result.errors == ()
    assert not [d for d in result.diagnostics if d.code.name == "sizes-not-known"]


def test_what_is_said_to_be_refused_is_refused(flux: Path) -> None:
    text = [f"pipeline.source={flux}", "budget.ram=13GiB"]
    found = planner.validate(ROOT / "plans/flux.plan.yaml", overrides=text)
    assert [problem.code.id for problem in found.errors] == ["P606"]


INT8 = TEXT.split("flux-16gb-int8.plan.yaml\n")[1].split("```")[0]


@pytest.mark.parametrize(
    ("size", "budget", "quantized"),
    [(8, 7, False), (12, 11, False), (16, 15, False), (24, 22, False), (24, 22, True)],
)
def test_a_figure_is_what_explain_prints(
    size: int, budget: int, quantized: bool, flux: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "plans/flux.plan.yaml").read_text("utf-8")
    if quantized:
        text += "quantization:" + INT8.split("quantization:")[1]
    (tmp_path / "x.plan.yaml").write_text(text, encoding="utf-8")
    overrides = [f"pipeline.source={flux}", f"budget.vram={budget}GiB"]
    sets = [word for one in overrides for word in ("--set", one)]
    assert run(["explain", str(tmp_path / "x.plan.yaml"), "--card", f"{size}GiB", *sets]) == 0
    printed = capsys.readouterr().out
    row = re.search(r"transformer +(\w+(?:, \d+% stays)?) +([\d.]+) ", printed)
    moved = re.search(r"; ([\d.]+) GiB to the device in a call", printed)
    assert row is not None
    assert moved is not None
    policy, own = row[1].removeprefix("stream, "), row[2]
    card = f"{size} GB, int8" if quantized else f"{size} GB"
    does = f"whole, {own} GiB" if policy == "offload" else f"{policy}, the rest streams each step"
    assert f"| {card} | {budget}GiB | {does} | {float(moved[1]):.1f} |" in TEXT
