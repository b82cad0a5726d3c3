"""Every sequence that diffusers ships, as a plan and back, and what is wrong with twenty of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import planner
from planner.cli.main import run
from planner.diagnostics.table.p8_translate import DEFECTS
from planner.graph.build import build_graph
from planner.loading.builtin import builtin_folder
from planner.plan.model import Idle, Semantics
from planner.schedule.lower import lower
from planner.schedule.verify import verify
from planner.target import catalogue
from planner.target.model import Target
from planner.translation.lint import chain_of, lint
from planner.translation.sequence import for_sequence, to_sequence, translate

VERSION = "0.42.1"
TARGETS = [t for n in catalogue.names(VERSION) if (t := catalogue.find(n, VERSION)) is not None]
SEQUENCED = [t for t in TARGETS if t.sequence is not None]

KNOWN_DEFECTS = {
    "AmusedImg2ImgPipeline": "sequenced-and-excluded",
    "AmusedInpaintPipeline": "sequenced-and-excluded",
    "BriaFiboEditPipeline": "sequence-unknown-name",
    "BriaFiboPipeline": "sequence-unknown-name",
    "BriaPipeline": "sequence-unknown-name",
    "ChromaInpaintPipeline": "sequence-unknown-name",
    "CogVideoXFunControlPipeline": "sequence-repeated-name",
    "Kandinsky3Img2ImgPipeline": "sequence-repeated-name",
    "KandinskyCombinedPipeline": "sequenced-and-excluded",
    "KandinskyImg2ImgCombinedPipeline": "sequenced-and-excluded",
    "KandinskyInpaintCombinedPipeline": "sequenced-and-excluded",
    "KandinskyPriorPipeline": "sequenced-and-excluded",
    "KandinskyV22PriorEmb2EmbPipeline": "sequenced-and-excluded",
    "KandinskyV22PriorPipeline": "sequenced-and-excluded",
    "KolorsImg2ImgPipeline": "sequence-unknown-name",
    "LTXLatentUpsamplePipeline": "sequence-empty",
    "LongCatImageEditPipeline": "sequence-unknown-name",
    "VersatileDiffusionDualGuidedPipeline": "sequence-unknown-name",
    "VersatileDiffusionImageVariationPipeline": "sequence-unknown-name",
    "VersatileDiffusionTextToImagePipeline": "sequence-unknown-name",
}


def test_the_defects_are_the_known_ones_and_no_others() -> None:
    found = {t.cls: {d.code.name for d in lint(t) if d.code in DEFECTS} for t in TARGETS}
    assert {cls: names.pop() for cls, names in found.items() if names} == KNOWN_DEFECTS
    assert len(SEQUENCED) == 284


@pytest.mark.parametrize("target", SEQUENCED, ids=lambda t: t.cls)
def test_a_translated_plan_is_valid_and_says_the_chain(target: Target, tmp_path: Path) -> None:
    made = translate(target)
    path = tmp_path / "x.plan.yaml"
    path.write_text(made.text, encoding="utf-8")
    result = planner.validate(path)
    assert result.errors == (), made.text
    assert result.plan is not None
    if any(d.code.name == "own-offload-method" for d in made.diagnostics):
        return  # the string does not say what happens there
    assert result.plan.semantics is Semantics.DIFFUSERS
    if not chain_of(target):
        return  # nothing is in the chain; these semantics need an order all the same
    back, problems = to_sequence(result.plan)
    assert problems == ()
    assert back == "->".join(chain_of(target))
    if target.cls not in KNOWN_DEFECTS:
        assert back == target.sequence


@pytest.mark.parametrize("target", [t for t in TARGETS if t.walk is not None], ids=lambda t: t.cls)
def test_an_improved_plan_is_valid_and_never_holds_more_than_its_largest_stage(
    target: Target, tmp_path: Path
) -> None:
    path = tmp_path / "x.plan.yaml"
    path.write_text(translate(target, improve=True).text, encoding="utf-8")
    plan = planner.load(path)
    assert plan.semantics is Semantics.LIVENESS
    assert plan.idle is Idle.RELEASE
    sized = {n: replace(i, bytes=1 << 20 if i.module else None) for n, i in target.components.items()}
    graph, found = build_graph(plan, replace(target, components=sized))
    assert graph is not None, found
    schedule, _ = lower(graph)
    assert schedule is not None
    assert verify(schedule, graph) == ()
    fixed = len(schedule.course.fixed)
    most = max(len({*node.components} - {*schedule.course.fixed}) if node.loop else 1 for node in graph.walk)
    assert schedule.peak is not None
    assert schedule.peak >> 20 <= fixed + most


def test_a_string_is_for_the_class_that_is_named() -> None:
    named, problems = for_sequence("text_encoder->unet->vae", "StableDiffusionPipeline")
    assert isinstance(named, Target)
    assert (named.cls, named.sequence) == ("StableDiffusionPipeline", "text_encoder->unet->vae")
    assert problems == []


@pytest.mark.parametrize(
    "lines",
    [
        "order: vae.encode -> unet -> vae.decode",
        "order: text_encoder -> unet -> vae",
        "stages: [{id: a, runs: [unet]}]",
        "order: unet -> vae\nidle: keep",
        "order: unet -> vae\ncomponents: {vae: resident}",
    ],
)
def test_what_a_string_cannot_say(lines: str, tmp_path: Path) -> None:
    path = tmp_path / "x.plan.yaml"
    path.write_text(f"version: 1\npipeline: StableDiffusionXLPipeline\n{lines}\n")
    back, problems = to_sequence(planner.load(path))
    assert back is None
    assert {d.code.name for d in problems} == {"not-sayable-as-a-sequence"}


def test_the_api_gives_a_plan() -> None:
    plan = planner.translate("text_encoder->unet->vae", cls="StableDiffusionPipeline")
    assert plan.pipeline.cls == "StableDiffusionPipeline"
    assert [str(s.runs[0]) for s in plan.stages or ()] == ["text_encoder", "unet", "vae"]
    better = planner.translate("StableDiffusionXLImg2ImgPipeline", improve=True)
    assert [s.id for s in better.stages or ()] == ["prompt", "encode", "image", "denoise", "decode"]
    with pytest.raises(planner.PlanError, match="no-sequence"):
        planner.translate("StableCascadeCombinedPipeline")
    with pytest.raises(planner.PlanError, match="which-class"):
        planner.translate("encoder->net->decoder")


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["translate", "KolorsImg2ImgPipeline"]) == 0
    out, err = capsys.readouterr()
    assert "order: text_encoder -> vae" in out
    assert "outside the chain" in out
    assert "P801" in err
    assert run(["translate", "--all", "--format", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["summary"] == {"ok": 264, "defect": 20, "no sequence": 23}
    assert {c["class"] for c in said["classes"] if c["status"] == "defect"} == set(KNOWN_DEFECTS)
    settings = ["translate", "--tool", "mmgp", "{profile_no: 4}"]
    assert run([*settings, "--class", "FluxPipeline"]) == 0
    assert "pipeline: FluxPipeline" in capsys.readouterr().out
    assert run(settings) == 2
    assert run(["translate", "--tool", "mpgm", "{}", "--class", "FluxPipeline"]) != 0
    assert run(["translate"]) == 2
    assert run(["translate", "KolorsImg2ImgPipelin"]) == 1
    assert run(["translate", "StableCascadeCombinedPipeline"]) == 1
    assert run(["translate", "SomebodysOwnThing"]) == 1


@pytest.mark.parametrize("improve", [False, True])
@pytest.mark.parametrize("name", ["sd", "my model: v1 #2", "sub/sd"])
def test_the_plan_of_a_folder_names_it(
    improve: bool,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """So that it is sized, and can be applied: what was translated is what the plan is for."""
    shutil.copytree(builtin_folder("tiny-sdxl"), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for given in (name, f"./{name}", f"{name}/", str(tmp_path / name)):
        plan = planner.translate(given, improve=improve)
        assert (tmp_path / (plan.pipeline.source or "")).samefile(tmp_path / name)
        assert run(["translate", given, *(["--improve"] if improve else [])]) == 0
        text = capsys.readouterr().out
        Path("x.plan.yaml").write_text(text)
        checked = planner.validate("x.plan.yaml")
        assert not checked.errors
        assert "sizes-not-known" not in {d.code.name for d in checked.notes}
        assert checked.plan is not None
        assert checked.plan.pipeline.source == plan.pipeline.source
