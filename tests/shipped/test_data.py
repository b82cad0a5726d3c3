"""What ships is what the command makes, and is read without torch or a network."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import planner
from planner.cli.main import run
from planner.models.model import models, profile, shapes
from planner.predict.stored import from_json
from planner.source.text import SourceText
from planner.tracing.predictions import facts, made

ROOT = Path(__file__).parents[2]
DATA = ROOT / "planner" / "models" / "data"
FLUX = str(ROOT / "plans" / "flux.plan.yaml")


def test_the_index_has_every_model_of_the_facts() -> None:
    said = facts()
    assert {model.name for model in models().values()} == {*said}
    assert len(models()) == sum(len(one["ids"]) for one in said.values())
    for model in models().values():
        assert len(model.calls) == len(said[model.name]["calls"]) * len(said[model.name]["cards"])
        for call in model.calls:
            assert profile(model, call).pipeline == model.cls


def test_all_of_it_is_small() -> None:
    """Bytes that the wheel grows by."""
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 2_000_000


def test_one_made_again_is_what_ships() -> None:
    """Its kernels and calls are cut to the first, to be quick."""
    said = facts()["sd15"]
    entry, text = made("sd15", {**said, "calls": said["calls"][:1], "cards": said["cards"][:1]})
    model = models()[said["ids"][0]]
    first, line = text.splitlines()
    kept = gzip.decompress((DATA / "sd15.json.gz").read_bytes()).decode().splitlines()
    assert json.loads(first) == json.loads(kept[0])
    again, shipped = from_json(line), profile(model, model.calls[0])
    assert again.weights == shipped.weights
    if all(metadata.version(name) == version for name, version in model.versions.items()):
        assert line == kept[1]
    ours = json.loads((DATA / "index.json").read_text())["sd15"]
    assert {key: entry[key] for key in entry.keys() - {"calls", "versions"}} == {
        key: ours[key] for key in ours.keys() - {"calls", "versions"}
    }


def test_published_sizes() -> None:
    """Parameters as the models' authors or the files' headers on the hub say."""
    said = {
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "unet"): 859_520_964,
        ("stabilityai/stable-diffusion-xl-base-1.0", "unet"): 2_567_463_684,
        ("black-forest-labs/FLUX.1-dev", "transformer"): 11_901_408_320,
        ("Wan-AI/Wan2.1-T2V-14B-Diffusers", "transformer"): 14_288_491_584,
    }
    for (source, name), parameters in said.items():
        found = 0
        for shape in shapes(models()[source])[name].tensors.values():
            size = 1
            for n in shape:
                size *= n
            found += size
        assert found == parameters


MEASURED = {
    "sdxl 1024x1024": "stabilityai/stable-diffusion-xl-base-1.0",
    "sd3.5-large 1024x1024": "stabilityai/stable-diffusion-3.5-large",
    "flux-dev 1024x1024": "black-forest-labs/FLUX.1-dev",
    "hunyuanvideo 544x960 61f tiled": "hunyuanvideo-community/HunyuanVideo",
    "ltx-video 512x704 161f": "Lightricks/LTX-Video",
}


@pytest.mark.parametrize("name", MEASURED)
def test_activations_are_those_of_an_h200(name: str) -> None:
    """But for T5, which transformers computes otherwise from 5.20 on: these were measured with 5.17."""
    known = json.loads((ROOT / "tests" / "tracing" / "measured.json").read_text())["pipelines"]
    case = next(one for one in known if one["name"] == name)
    model = models()[MEASURED[name]]
    sizes = {key: case["call"][key] for key in ("height", "width", "num_frames") if key in case["call"]}
    call = next(
        c
        for c in model.calls
        if c.kernels.name == "hopper" and c.arguments == sizes and bool(c.tiling) == case["tiling"]
    )
    peaks = {u.component + f".{u.entry}" * bool(u.entry): u.peak() for u in profile(model, call).uses}
    t5 = {key for key, part in case["parts"].items() if part["cls"] == "T5EncoderModel"}
    for key, bytes_ in case["peaks"].items():
        if key not in t5:
            assert peaks[key] == pytest.approx(bytes_, rel=0.005), key


def test_no_torch_is_imported_and_nothing_asked_of_a_network() -> None:
    code = (
        "import socket, sys\n"
        "def none(*_, **__): raise AssertionError('a socket')\n"
        "socket.socket.connect = none\n"
        "import planner\n"
        "from planner.schedule.card import imagined_as\n"
        "from planner.cards.shipped import card_at\n"
        f"assert planner.validate({FLUX!r})\n"
        f"found = planner.compile({FLUX!r}, card=imagined_as(card_at('rtx-5090')))\n"
        "assert found.forecast.peak <= 27 << 30\n"
        f"assert planner.activations({FLUX!r}).keys() == found.graph.activations.keys()\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_plan_that_does_not_fit_is_told() -> None:
    text = """\
version: 1
pipeline: {class: FluxPipeline, source: black-forest-labs/FLUX.1-dev, dtype: bfloat16}
budget: {vram: 1500MiB}
run: {prompt: a cat}
"""
    exact = planner.validate(SourceText(name="x.plan.yaml", text=text))
    assert {error.code.id for error in exact.errors} == {"P607"}
    other = text.replace("a cat", "a cat, height: 1152, width: 1152")
    near = planner.validate(SourceText(name="x.plan.yaml", text=other))
    assert near.ok
    assert {found.code.id for found in near.warnings} == {"P607"}
    assert {"P366"} <= {found.code.id for found in near.notes}


def test_rules_are_sized_and_matched() -> None:
    text = """\
version: 1
pipeline: {class: FluxPipeline, source: black-forest-labs/FLUX.1-dev, dtype: bfloat16}
budget: {vram: 20GiB}
quantization:
  - {component: transformer, backend: torchao, type: int8_weight_only}
run: {prompt: a cat}
"""
    compiled = planner.compile(SourceText(name="x.plan.yaml", text=text))
    assert 11 << 30 < (compiled.target.components["transformer"].bytes or 0) < 12 << 30
    assert compiled.call is not None
    assert any("traced as dense" in note for note in compiled.call.notes)


def test_explain_says_that_it_ships(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", FLUX, "--card", "rtx-5090"]) == 0
    out = capsys.readouterr().out
    assert "predicted:" in out
    assert "P366" in out
    assert "denoise" in out


def test_another_class_has_sizes_and_says_why_no_more() -> None:
    found = planner.validate(str(ROOT / "plans" / "sdxl-controlnet.plan.yaml"))
    notes = {note.code.id: note.message for note in found.notes}
    assert "StableDiffusionXLPipeline was traced" in notes["P366"]
    assert '"controlnet"' in notes["P352"]


def test_a_locks_sizes_are_its_own() -> None:
    """They are of a commit; what ships is of no commit."""
    lock = planner.compile(FLUX).lock()
    found = planner.compile(FLUX, lock=lock)
    (note,) = (d.message for d in found.diagnostics if d.code.id == "P366")
    assert note.startswith("activations of ")
    assert found.target.origin != "shipped"


def test_a_downloaded_hub_id_is_traced_where_no_call_that_ships_is_its(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Configs are enough; here those of a small pipeline stand under the id."""
    from planner.loading.builtin import builtin_folder

    source = "stabilityai/stable-diffusion-xl-base-1.0"
    repository = tmp_path / ("models--" + source.replace("/", "--"))
    (repository / "snapshots").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").symlink_to(builtin_folder("tiny-sdxl"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))

    def call(**run: int) -> list[str]:
        text = (
            f"version: 1\npipeline: {{class: StableDiffusionXLPipeline, source: {source}, dtype: float16}}\n"
            f"run: {json.dumps({'prompt': 'a cat', **run})}\n"
        )
        return list(planner.profile(planner.load(SourceText(name="x.plan.yaml", text=text))).notes)

    assert any("it ships" in note for note in call())
    assert not any("it ships" in note for note in call(height=64, width=64))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "nothing"))
    assert any("of 1024x1024" in note for note in call(height=1152, width=1152))
