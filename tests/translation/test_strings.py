"""A bare sequence string: which classes it fits, and what is wrong with it, at its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import planner
from planner.cli.main import run
from planner.cli.sequences import sequences_table
from planner.diagnostics.diagnostic import errors
from planner.report.render import to_text
from planner.target import catalogue
from planner.translation.candidates import candidates
from planner.translation.lint import lint
from planner.translation.sequence import translate, translate_string

VERSION = "0.42.1"
STRINGS = sorted(
    {t.sequence for n in catalogue.names(VERSION) if (t := catalogue.find(n, VERSION)) and t.sequence}
)
FLUX_CLASS = "FluxControlNetImg2ImgPipeline"
FLUX = "text_encoder->text_encoder_2->image_encoder->transformer->vae"
SDXL = "text_encoder->text_encoder_2->image_encoder->unet->vae"


@pytest.mark.parametrize("string", STRINGS)
def test_a_string_alone_is_taken_only_where_all_classes_that_it_fits_have_one_plan(string: str) -> None:
    made, found, _ = translate_string(string)
    fitting = candidates(string)
    if made is None:
        assert errors(found)
        if any(d.code.name == "which-class" for d in found):
            said = "\n".join(d.hint for d in found)
            assert all(target.cls in said for target in fitting.all)
        return
    assert errors(made.diagnostics) == ()
    note = next(d for d in made.diagnostics if d.code.name == "taken-for-class")
    plans = set()
    for target in fitting.all:
        assert target.cls in note.message
        alone, _, _ = translate_string(string, target.cls)
        assert alone is not None
        plans.add(alone.text.replace(target.cls, "CLASS"))
        better, _, _ = translate_string(string, target.cls, improve=True)
        assert better is not None
    assert len(plans) == 1


@pytest.mark.parametrize(
    ("string", "cls"),
    [
        (FLUX, "FluxPipeline"),
        (SDXL, "StableDiffusionXLPipeline"),
        ("text_encoder->image_encoder->unet->vae", "StableDiffusionPipeline"),
        ("text_encoder->unet->vae", "StableDiffusionPipeline"),
        ("text_encoder->transformer->vae", "QwenImagePipeline"),
        ("text_encoder->vae", "FluxPipeline"),
    ],
)
def test_a_string_that_several_classes_have_asks_which(
    string: str, cls: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["translate", string]) != 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "P809" in err
    assert cls in err
    assert run(["translate", string, "--class", cls]) == 0
    assert f"pipeline: {cls}\n" in capsys.readouterr().out


def test_a_class_without_a_component_of_the_string_is_no_candidate() -> None:
    """BriaPipeline ships with Flux's string, and has no text_encoder_2."""
    assert "BriaPipeline" not in {target.cls for target in candidates(FLUX).all}


@pytest.mark.parametrize(
    ("string", "name", "code"),
    [
        ("text_encoder->unett->vae", "unett", "sequence-unknown-name"),
        ("text_encoder->unet->vae->refiner", "refiner", "sequence-unknown-name"),
        ("text_encoder -> unet -> vae", "text_encoder ", "sequence-unknown-name"),
        ("text_encoder->image_encoder-unet->vae", "image_encoder-unet", "sequence-unknown-name"),
        ("text_encoder->unet->scheduler", "scheduler", "sequence-unknown-name"),
        ("text_encoder->unet->vae->unet", "unet", "sequence-repeated-name"),
        ("text_encoder->->vae", "", "sequence-unknown-name"),
    ],
)
def test_what_is_wrong_with_a_string_is_an_error_at_its_place(
    string: str, name: str, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made, found, _ = translate_string(string, "StableDiffusionPipeline")
    assert made is None
    problem = errors(found)[0]
    assert problem.code.name == code
    assert problem.span is not None
    assert string[problem.span.column - 1 :][: len(name)] == name
    with pytest.raises(planner.PlanError, match=code):
        planner.translate(string, cls="StableDiffusionPipeline")
    assert run(["translate", string, "--class", "StableDiffusionPipeline"]) == 1
    assert capsys.readouterr().out == ""


def test_a_name_that_no_class_has_is_shown_without_a_class_too() -> None:
    made, found, _ = translate_string("text_encoder->unett->vae")
    assert made is None
    assert {d.span.column for d in found if d.code.name == "sequence-unknown-name" and d.span} == {15}


NAMES = st.sampled_from(["text_encoder", "unet", "vae", "unett", "scheduler", "safety_checker", "", " vae"])


@settings(max_examples=60)
@given(names=st.lists(NAMES, min_size=1, max_size=5), cls=st.sampled_from([None, "StableDiffusionPipeline"]))
def test_no_component_of_a_string_is_dropped(names: list[str], cls: str | None) -> None:
    made, found, _ = translate_string("->".join(names), cls)
    if made is None:
        assert errors(found)
        return
    assert errors(made.diagnostics) == ()
    assert f"order: {' -> '.join(names)}  #" in made.text


@pytest.mark.parametrize("name", catalogue.names(VERSION))
def test_no_class_is_translated_with_an_error_and_a_plan(name: str) -> None:
    target = catalogue.find(name, VERSION)
    assert target is not None
    for improve in (False, True):
        made = translate(target, improve=improve)
        assert bool(errors(made.diagnostics)) == (made.text == "")


def test_a_string_in_a_file_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "sequence.txt"
    place.write_text("text_encoder->unet->vae\n")
    assert run(["translate", str(place), "--class", "StableDiffusionPipeline"]) == 0
    assert "order: text_encoder -> unet -> vae" in capsys.readouterr().out
    wrong = ["translate", "text_encoder->unett", "--class", "StableDiffusionPipeline", "--format", "json"]
    assert run(wrong) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["plan"] == ""
    assert [(d["code"], d["severity"], d["column"]) for d in said["diagnostics"]] == [("P801", "error", 15)]


@pytest.mark.parametrize("width", [40, 60, 80, 400])
def test_the_table_of_all_fits_a_terminal(width: int) -> None:
    rows = [(t, lint(t)) for n in ("KolorsImg2ImgPipeline", FLUX_CLASS) if (t := catalogue.find(n, VERSION))]
    lines = to_text(sequences_table(rows), width=width).split("\n")
    assert max(map(len, lines)) <= width
    shown = "\n".join(lines)
    assert all(said in shown for said in ("status", "codes", "sequence", "P801", "Kolors"))


@pytest.mark.parametrize("width", [40, 60, 80, 400])
def test_the_table_of_all_keeps_its_columns(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert run(["translate", "--all"]) == 0
    out = capsys.readouterr().out
    assert out.split("\n")[0].split() == ["class", "status", "codes", "sequence"]
    assert "P801" in out
    assert "…" not in out
    assert "264 ok, 20 defect, 23 no sequence" in out
