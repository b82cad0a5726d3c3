"""Another diffusers than the one that the plan was checked against."""

from __future__ import annotations

from pathlib import Path

import pytest

import planner
from planner.session.versions import version_notes
from planner.target import catalogue


def said(tmp_path: Path, cls: str, installed: str, requires: str = "") -> list[str]:
    path = tmp_path / "x.plan.yaml"
    path.write_text(f"version: 1\npipeline: {cls}\n{requires}")
    return [d.message for d in version_notes(planner.load(path), cls, installed)]


def test_the_same_version_says_nothing(tmp_path: Path) -> None:
    assert said(tmp_path, "FluxPipeline", catalogue.versions()[0]) == []


def test_a_class_that_is_the_same_says_nothing(tmp_path: Path) -> None:
    assert said(tmp_path, "FluxPipeline", "0.40.0") == []


def test_a_version_that_is_not_in_the_catalogue(tmp_path: Path) -> None:
    (note,) = said(tmp_path, "FluxPipeline", "0.99.0")
    assert "0.99.0 is not in the catalogue" in note


def test_requires_chooses_the_catalogue(tmp_path: Path) -> None:
    assert said(tmp_path, "FluxPipeline", "0.40.0", "requires: {diffusers: '==0.40.0'}\n") == []


def test_what_changed_is_named(tmp_path: Path) -> None:
    newest, oldest = catalogue.versions()[0], catalogue.versions()[-1]
    changed = [
        name
        for name in catalogue.names(newest)
        if (a := catalogue.find(name, newest))
        and (b := catalogue.find(name, oldest))
        and a.sequence != b.sequence
    ]
    gone = [name for name in catalogue.names(newest) if catalogue.find(name, oldest) is None]
    assert gone
    (note,) = said(tmp_path, gone[0], oldest)
    assert "it is not there" in note
    for name in changed[:3]:
        (note,) = said(tmp_path, name, oldest)
        assert "its sequence is" in note


@pytest.mark.parametrize("version", catalogue.versions())
def test_every_version_that_ships_reads(version: str) -> None:
    names = catalogue.names(version)
    assert len(names) > 290
    assert all(catalogue.find(name, version) is not None for name in names)
