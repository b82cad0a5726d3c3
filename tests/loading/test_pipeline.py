"""A plan's pipeline: what loads, and what each failure is called."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import planner
from planner.diagnostics.diagnostic import Diagnostic, PlanError, Severity
from planner.loading.builtin import builtin_folder
from planner.loading.failure import explain
from planner.loading.pipeline import load_pipeline

SDXL = "class: StableDiffusionXLPipeline"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a built-in beside the plan, to be harmed."""
    return Path(shutil.copytree(builtin_folder("tiny-sdxl"), tmp_path / "sdxl"))


def refused(plan: Any, **options: Any) -> Diagnostic:
    with pytest.raises(PlanError) as caught:
        load_pipeline(plan, **options)
    assert caught.value.sources == plan.document.sources
    (found,) = caught.value.diagnostics
    assert found.severity is Severity.ERROR
    assert "\n" not in found.message
    return found


def test_a_folder_is_relative_to_the_plan_and_in_float32_when_nothing_is_said(
    folder: Path, make_plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    pipe = load_pipeline(make_plan(f"pipeline: {{{SDXL}, source: ./sdxl}}"))
    assert type(pipe).__name__ == "StableDiffusionXLPipeline"
    assert pipe.unet.dtype is pipe.text_encoder.dtype is torch.float32
    assert pipe.device == torch.device("cpu")


def test_the_dtype_of_the_plan(folder: Path, make_plan: Any) -> None:
    pipe = load_pipeline(make_plan(f"pipeline: {{{SDXL}, source: sdxl, dtype: bfloat16}}"))
    assert pipe.unet.dtype is pipe.vae.dtype is pipe.text_encoder_2.dtype is torch.bfloat16


def test_a_class_beside_the_one_that_was_saved(folder: Path, make_plan: Any) -> None:
    plan = make_plan("pipeline: {class: StableDiffusionXLImg2ImgPipeline, source: ./sdxl}")
    assert type(load_pipeline(plan)).__name__ == "StableDiffusionXLImg2ImgPipeline"


def test_a_variant(folder: Path, make_plan: Any) -> None:
    pipe = load_pipeline(make_plan(f"pipeline: {{{SDXL}, source: ./sdxl, dtype: float16}}"))
    pipe.save_pretrained(folder.parent / "both", variant="fp16")
    plan = make_plan(f"pipeline: {{{SDXL}, source: ./both, dtype: float16, variant: fp16}}")
    assert load_pipeline(plan).unet.dtype is torch.float16
    found = refused(make_plan(f"pipeline: {{{SDXL}, source: ./sdxl, dtype: float16, variant: fp16}}"))
    assert str(found).endswith('"./sdxl" has no weights of the variant "fp16" [P906 weights-missing]')
    assert found.span is not None
    assert found.span.line == 2


def test_a_folder_that_is_not_there(folder: Path, make_plan: Any) -> None:
    found = refused(make_plan(f"pipeline: {{{SDXL}, source: ./sdlx}}"))
    assert found.code.id == "P904"
    assert found.hint == 'did you mean "sdxl"?'


def test_a_folder_that_holds_no_pipeline(folder: Path, make_plan: Any) -> None:
    (folder / "model_index.json").unlink()
    found = refused(make_plan(f"pipeline: {{{SDXL}, source: ./sdxl}}"))
    assert found.message == '"./sdxl" is no pipeline\'s folder: it has no model_index.json'


def test_a_pipeline_of_another_class(folder: Path, make_plan: Any) -> None:
    found = refused(make_plan("pipeline: {class: FluxPipeline, source: ./sdxl}"))
    assert found.code.name == "source-of-another-class"
    assert (
        found.message
        == '"./sdxl" lacks components of FluxPipeline: "transformer"; it holds a StableDiffusionXLPipeline'
    )


def test_a_component_that_the_folder_lacks_is_named_before_anything_is_read(
    folder: Path, make_plan: Any
) -> None:
    for file in folder.rglob("*.safetensors"):
        file.unlink()
    found = refused(make_plan("pipeline: {class: StableDiffusionXLControlNetPipeline, source: ./sdxl}"))
    assert found.message.startswith(
        '"./sdxl" lacks components of StableDiffusionXLControlNetPipeline: "controlnet"'
    )
    assert found.hint == "components: {controlnet: {source: FOLDER}} brings one from elsewhere"


@pytest.mark.parametrize("component", ["unet", "text_encoder"])
def test_weights_that_are_not_there(component: str, folder: Path, make_plan: Any) -> None:
    next((folder / component).glob("*.safetensors")).unlink()
    found = refused(make_plan(f"pipeline: {{{SDXL}, source: ./sdxl}}"))
    assert found.message == f'"./sdxl" has no weights of "{component}"'


@pytest.mark.parametrize("component", ["unet", "text_encoder"])
def test_a_file_cut_short(component: str, folder: Path, make_plan: Any) -> None:
    path = next((folder / component).glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:5000])
    found = refused(make_plan(f"pipeline: {{{SDXL}, source: ./sdxl}}"))
    assert found.code.name == "source-damaged"
    assert found.message == f'a file of "./sdxl" is damaged: {component}/{path.name}'


def test_a_config_that_is_no_json(folder: Path, make_plan: Any) -> None:
    (folder / "unet" / "config.json").write_text("{")
    found = refused(make_plan(f"pipeline: {{{SDXL}, source: ./sdxl}}"))
    assert found.message == 'a file of "./sdxl" is damaged: unet/config.json'


def test_pickled_weights_need_the_word_of_whoever_runs(folder: Path, make_plan: Any) -> None:
    pipe = load_pipeline(make_plan(f"pipeline: {{{SDXL}, source: ./sdxl}}"))
    for path in (folder / "unet").glob("*.safetensors"):
        path.unlink()
    pipe.unet.save_pretrained(folder / "unet", safe_serialization=False)
    plan = make_plan(f"pipeline: {{{SDXL}, source: ./sdxl}}")
    found = refused(plan)
    assert (found.code.name, found.code.exit_code) == ("pickle-not-allowed", 4)
    assert '"unet"' in found.message
    again = load_pipeline(plan, allow_pickle=True)
    assert all(map(torch.equal, pipe.unet.state_dict().values(), again.unet.state_dict().values()))


def test_a_pickled_single_file_is_not_opened(make_plan: Any, tmp_path: Path) -> None:
    (tmp_path / "old.ckpt").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    found = refused(make_plan(f"pipeline: {{{SDXL}, source: ./old.ckpt}}"))
    assert found.message == '"old.ckpt" is pickled, and reading it can run code'


def test_a_single_file_that_is_damaged(make_plan: Any, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"no header here, and long enough to be one")
    found = refused(make_plan(f"pipeline: {{{SDXL}, source: ./x.safetensors}}"))
    assert found.code.name == "source-damaged"


def test_code_in_the_source_does_not_run(folder: Path, make_plan: Any) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = ["pipeline", "Custom"]
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "pipeline.py").write_text("raise SystemExit('it ran')\n")
    found = refused(make_plan(f"pipeline: {{{SDXL}, source: ./sdxl}}"))
    assert found.code.name == "remote-code"


def offline(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))


def test_a_hub_that_cannot_be_asked(make_plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch, tmp_path)
    plan = make_plan(f"pipeline: {{{SDXL}, source: nobody/nothing}}")
    with pytest.raises(PlanError) as caught:
        load_pipeline(plan)
    assert caught.value.diagnostics[0].code.name == "hub-unreachable"
    assert caught.value.__cause__ is not None


def test_a_single_file_whose_configs_would_come_from_the_hub(
    make_plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    offline(monkeypatch, tmp_path)
    save_file({"x": torch.zeros(1)}, tmp_path / "one.safetensors")
    found = refused(make_plan(f"pipeline: {{{SDXL}, source: ./one.safetensors}}"))
    assert found.code.name == "hub-unreachable"
    assert found.message.startswith('the configs that "./one.safetensors" needs are not on this machine')


def test_a_class_whose_own_packages_are_missing(make_plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    class StandIn:
        _backends: ClassVar = ["torch", "not_installed_anywhere"]

    monkeypatch.setattr(diffusers, "KolorsPipeline", StandIn)
    found = refused(make_plan("pipeline: {class: KolorsPipeline, source: ./x}"))
    assert found.code.name == "package-missing"
    assert found.hint == "pip install not_installed_anywhere"


def test_a_class_that_diffusers_lacks(make_plan: Any) -> None:
    found = refused(make_plan("pipeline: {class: FluxPipline, source: ./x}"))
    assert found.code.name == "class-not-installed"
    assert found.hint == 'did you mean "FluxPipeline"?'
    assert refused(make_plan("pipeline: {class: UNet2DModel, source: ./x}")).code.id == found.code.id


def test_a_plan_without_a_source(make_plan: Any) -> None:
    assert refused(make_plan("pipeline: FluxPipeline")).code.name == "no-source"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ImportError("\nT5Tokenizer requires the SentencePiece library but it was not found.\n"),
            'package "sentencepiece" is missing, and "FluxPipeline" needs it',
        ),
        (
            ModuleNotFoundError("No module named 'ftfy.fixes'"),
            'package "ftfy" is missing, and "FluxPipeline" needs it',
        ),
        (
            RuntimeError("size mismatch for\n  x:\tcopying"),
            '"a/b" does not load: size mismatch for x: copying',
        ),
        (RuntimeError(""), '"a/b" does not load: RuntimeError'),
        (KeyError("weight_map"), "\"a/b\" does not load: 'weight_map'"),
        (RuntimeError("x" * 999), f'"a/b" does not load: {"x" * 197}...'),
    ],
)
def test_what_the_libraries_say_in_one_line(error: Exception, said: str, make_plan: Any) -> None:
    plan = make_plan("pipeline: {class: FluxPipeline, source: a/b}")
    assert explain(error, plan, None).message == said


def test_a_cause_below_the_error_is_seen(make_plan: Any) -> None:
    class LocalEntryNotFoundError(FileNotFoundError):
        pass

    try:
        try:
            raise LocalEntryNotFoundError("no snapshot")
        except LocalEntryNotFoundError as cause:
            raise OSError("Cannot load model") from cause
    except OSError as error:
        found = explain(error, make_plan("pipeline: {class: FluxPipeline, source: a/b}"), None)
    assert found.code.name == "hub-unreachable"


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        ("DiffusionPipeline", "StableDiffusionXLPipeline"),
        ("AutoPipelineForImage2Image", "StableDiffusionXLImg2ImgPipeline"),
    ],
)
def test_a_generic_class_is_what_the_folder_says(
    cls: str, expected: str, folder: Path, make_plan: Any
) -> None:
    plan = make_plan(f"pipeline: {{class: {cls}, source: ./sdxl}}")
    assert type(load_pipeline(plan)).__name__ == expected


def test_a_snapshot_in_a_cache_of_the_hub(folder: Path, make_plan: Any) -> None:
    repository = folder.parent / "models--me--sdxl"
    (repository / "snapshots").mkdir(parents=True)
    folder.rename(repository / "snapshots/abc")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("abc")
    plan = make_plan(f"pipeline: {{{SDXL}, source: ./models--me--sdxl}}")
    assert type(load_pipeline(plan)).__name__ == "StableDiffusionXLPipeline"


def test_a_components_source_without_files_of_the_variant(folder: Path, make_plan: Any) -> None:
    """Its plain ones are taken, as for a component of the pipeline's own folder."""
    pipe = load_pipeline(make_plan(f"pipeline: {{{SDXL}, source: ./sdxl, dtype: float16}}"))
    pipe.save_pretrained(folder.parent / "half", variant="fp16")
    pipe.vae.save_pretrained(folder.parent / "plain")
    plan = make_plan(
        f"pipeline: {{{SDXL}, source: ./half, dtype: float16, variant: fp16}}\n"
        "components: {vae: {source: ./plain}}"
    )
    assert planner.validate(plan).errors == ()
    assert load_pipeline(plan).vae.dtype is torch.float16
