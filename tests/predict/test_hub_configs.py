"""A hub's pipeline of which the configs alone were downloaded: a traced call tells the sizes too."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import planner
from planner.cards.shipped import card_at
from planner.loading.builtin import builtin_folder
from planner.schedule.card import imagined_as

CARD = imagined_as(card_at("rtx-4090"))
PLAN = """version: 1
pipeline: {class: FluxPipeline, source: someone/tiny}
run: {prompt: a cat, height: 64, width: 64, num_inference_steps: 2}
budget: {vram: 8GiB}
"""


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Beside a cache of the hub with no weight files."""
    repository = tmp_path / "hub" / "models--someone--tiny"
    snapshot = repository / "snapshots" / "abc"
    shutil.copytree(builtin_folder("tiny-flux"), snapshot, ignore=shutil.ignore_patterns("*.safetensors"))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("OFFLOAD_PLANNER_HOME", str(tmp_path / "home"))
    path = tmp_path / "x.plan.yaml"
    path.write_text(PLAN)
    return path


def test_a_traced_call_tells_the_sizes(plan: Path) -> None:
    blind = planner.compile(plan, card=CARD)
    assert "P352" in {d.code.id for d in blind.diagnostics}
    told = planner.compile(plan, card=CARD, call=planner.profile(planner.load(plan)))
    assert not {"P352", "P605"} & {d.code.id for d in told.diagnostics}
    there = planner.compile(plan, card=CARD, overrides=["pipeline.source=builtin:tiny-flux"])
    assert told.schedule.peak == there.schedule.peak
    assert told.target.components["image_encoder"].present is False


def test_a_fit_of_its_hub_id(plan: Path) -> None:
    made = planner.fit("someone/tiny", vram="8GiB", card="rtx-4090")
    assert "class: FluxPipeline, source: someone/tiny" in made.text
    with pytest.raises(planner.PlanError) as raised:
        planner.fit("someone/other", vram="8GiB", card="rtx-4090")
    assert [d.code.id for d in raised.value.diagnostics] == ["P360"]
