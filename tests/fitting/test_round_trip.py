"""A plan's way: fitted, edited by hand, validated, locked, and told what a newer diffusers does otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from planner.cli.main import run
from planner.fitting.edit import MARK, without_marks
from planner.target import catalogue

from .test_fit import PLAN

NEWER = "0.43.0"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("OFFLOAD_PLANNER_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("mine.plan.yaml").write_text(PLAN)
    _forget()
    yield tmp_path
    monkeypatch.undo()
    _forget()


def upgraded(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A diffusers came out in which the class encodes no image and its offload sequence has the VAE before
    the second encoder."""
    before = catalogue.versions()[0]
    folder = here / "catalogues"
    folder.mkdir()
    for version in catalogue.versions():
        text = (catalogue._data() / f"diffusers-{version}.json").read_text(encoding="utf-8")
        (folder / f"diffusers-{version}.json").write_text(text)
    newer: dict[str, Any] = json.loads((folder / f"diffusers-{before}.json").read_text())
    record = newer["classes"]["FluxPipeline"]
    record["sequence"] = "text_encoder->vae->text_encoder_2->transformer"
    record["walk"] = [stage for stage in record["walk"] if stage["id"] != "image"]
    (folder / f"diffusers-{NEWER}.json").write_text(json.dumps(newer | {"diffusers": NEWER}))
    monkeypatch.setattr(catalogue, "_data", lambda: folder)
    _forget()


def _forget() -> None:
    for cached in (catalogue.find, catalogue.models, catalogue._file):
        cached.cache_clear()


def test_fit_edit_validate_lock_upgrade(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--vram", "840MiB", "--card", "h200")
    assert run(["fit", "mine.plan.yaml", *asked, "-o", "best.plan.yaml"]) == 0
    best = Path("best.plan.yaml")
    fitted = best.read_text()
    assert without_marks(fitted) != PLAN
    assert MARK in fitted

    edited = fitted.replace("prefetch: 2}   # two", "prefetch: 1}   # one is enough") + "# the end\n"
    assert edited != fitted + "# the end\n"
    best.write_text(edited)
    assert run(["validate", "best.plan.yaml", "--card", "h200"]) == 0
    assert run(["fit", "best.plan.yaml", *asked, "-o", "again.plan.yaml"]) == 0
    kept = without_marks(edited).splitlines()
    assert [line for line in kept if line not in Path("again.plan.yaml").read_text().splitlines()] == []

    assert run(["compile", "best.plan.yaml", "--card", "h200", "--lock"]) == 0
    assert run(["compile", "best.plan.yaml", "--check"]) == 0
    assert run(["validate", "best.plan.yaml", "--locked"]) == 0
    assert best.read_text() == edited
    locked = json.loads(Path("best.plan.lock.json").read_text())
    capsys.readouterr()

    upgraded(here, monkeypatch)
    assert run(["validate", "best.plan.yaml"]) == 0
    capsys.readouterr()
    for asking in (["compile", "best.plan.yaml", "--check"], ["validate", "best.plan.yaml", "--locked"]):
        assert run([*asking, "--format", "json"] if asking[0] == "validate" else asking) == 1
        said = " ".join(capsys.readouterr().out.split())
        was = locked["versions"]["diffusers"]
        assert f"versions diffusers: was {was}, is {NEWER}" in said
        assert (
            "pipeline sequence: was text_encoder->text_encoder_2->image_encoder->transformer->vae, " in said
        )
        assert "pipeline walk: was " in said
        assert "P954" in said
    assert run(["compile", "best.plan.yaml", "--card", "h200", "--lock"]) == 0
    assert run(["compile", "best.plan.yaml", "--check"]) == 0
