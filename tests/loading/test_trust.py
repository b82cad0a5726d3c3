"""A plan and what it names run no code that whoever runs it did not allow: packages, pickles."""

from __future__ import annotations

import json
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from planner.diagnostics.diagnostic import PlanError
from planner.loading.builtin import builtin_folder
from planner.loading.pickles import Refused, none_read
from planner.loading.pipeline import load_pipeline
from planner.loading.trusted import Untrusted, class_in

SDXL = "class: StableDiffusionXLPipeline"
RAN = "it_ran"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pipeline's folder that may be changed."""
    import shutil

    return Path(shutil.copytree(builtin_folder("tiny-sdxl"), tmp_path / "sdxl"))


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module in the working directory that says when it runs."""
    (tmp_path / "evil.py").write_text(
        f"open({str(tmp_path / RAN)!r}, 'w')\nfrom diffusers import UNet2DConditionModel as X\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    return tmp_path / RAN


def edit(folder: Path, **entries: Any) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def refused(plan: Any, **options: Any) -> Any:
    with pytest.raises(PlanError) as caught:
        load_pipeline(plan, **options)
    (found,) = caught.value.diagnostics
    return found


@pytest.mark.parametrize("name", ["unet", "scheduler", "tokenizer", "text_encoder_2"])
def test_an_index_imports_nothing_of_the_working_directory(
    name: str, folder: Path, evil: Path, make_plan: Any
) -> None:
    edit(folder, **{name: ["evil", "X"]})
    found = refused(make_plan(f"pipeline: {{{SDXL}, source: ./sdxl}}"))
    assert (found.code.name, found.span.line) == ("remote-code", 2)
    assert '"evil"' in found.message
    assert "--trust-remote-code" in found.hint
    assert not evil.exists()
    assert "evil" not in sys.modules


@pytest.mark.parametrize("library", ["evil", "os", "evil.inside", "diffusers_evil", "tests", "__main__"])
def test_nor_does_the_index_of_a_components_source(
    library: str, folder: Path, evil: Path, make_plan: Any
) -> None:
    edit(folder, unet=[library, "X"])
    plan = make_plan(
        f"pipeline: {{{SDXL}, source: 'builtin:tiny-sdxl'}}\ncomponents:\n  unet: {{source: ./sdxl}}"
    )
    found = refused(plan)
    assert (found.code.name, found.span.line) == ("remote-code", 4)
    assert not evil.exists()


def test_with_the_word_of_whoever_runs_it_does(folder: Path, evil: Path, make_plan: Any) -> None:
    edit(folder, unet=["evil", "X"])
    plan = make_plan(
        f"pipeline: {{{SDXL}, source: 'builtin:tiny-sdxl'}}\ncomponents:\n  unet: {{source: ./sdxl}}"
    )
    pipe = load_pipeline(plan, trust_remote_code=True)
    assert type(pipe.unet).__name__ == "UNet2DConditionModel"
    assert evil.exists()


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("evil", "X"),
        ("os", "system"),
        (".evil", "X"),
        ("", "X"),
        ("diffusersx", "X"),
        ("torch", "load"),
        ("pipeline_utils.os", "system"),
    ],
)
def test_what_no_class_comes_from(library: str, name: str, evil: Path) -> None:
    with pytest.raises((Untrusted, ValueError)):
        class_in(library, name)
    assert not evil.exists()


@pytest.mark.parametrize(
    ("library", "name"),
    [("diffusers", "utils"), ("diffusers", "__name__"), ("transformers", "logging"), ("flux", "math")],
)
def test_what_is_no_class_that_loads(library: str, name: str) -> None:
    with pytest.raises(ValueError, match="has no class"):
        class_in(library, name)


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("diffusers", "AutoencoderKL"),
        ("transformers", "CLIPTextModel"),
        ("stable_diffusion", "StableDiffusionSafetyChecker"),
        ("diffusers.pipelines.stable_diffusion", "StableDiffusionSafetyChecker"),
        ("deepfloyd_if", "IFWatermarker"),
    ],
)
def test_what_a_class_comes_from(library: str, name: str) -> None:
    assert class_in(library, name).__name__ == name


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (open, (str(self.trace), "w"))


NAMES = [
    "v.CKPT",
    "v.dat",
    "v.pt",
    "v.pth",
    "v.BIN",
    "v.pkl",
    "v",
    "v.safetensors.bak",
    "v.SAFETENSORS",
    "v.Gguf",
]


@pytest.mark.parametrize("name", NAMES)
def test_no_pickle_by_any_suffix_is_a_components_source(
    name: str, make_plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(tmp_path / RAN)))
    seen: list[Any] = []
    monkeypatch.setattr(torch, "load", lambda *a, **k: seen.append(a))
    plan = make_plan(
        f"pipeline: {{{SDXL}, source: 'builtin:tiny-sdxl'}}\ncomponents:\n  vae: {{source: ./{name}}}"
    )
    found = refused(plan)
    assert (found.code.name, found.span.line) == ("pickle-not-allowed", 4)
    assert seen == []
    assert not (tmp_path / RAN).exists()


@pytest.mark.parametrize("name", NAMES)
def test_nor_is_it_the_pipelines(name: str, make_plan: Any, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(tmp_path / RAN)))
    found = refused(make_plan(f"pipeline: {{{SDXL}, source: ./{name}}}"))
    assert (found.code.name, found.span.line) == ("pickle-not-allowed", 2)


@pytest.mark.parametrize("name", NAMES)
def test_nor_is_it_a_lora(name: str, make_plan: Any, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(tmp_path / RAN)))
    for entry in (f"{{lora_id: ./{name}}}", f"{{lora_id: ., weight_name: {name}}}"):
        found = refused(make_plan(f"pipeline: {{{SDXL}, source: 'builtin:tiny-sdxl'}}\nloras:\n  - {entry}"))
        assert (found.code.name, found.span.line) == ("pickle-not-allowed", 4)


def test_an_index_of_shards_cannot_name_a_pickle(folder: Path, make_plan: Any, tmp_path: Path) -> None:
    (file,) = (folder / "unet").glob("*.safetensors")
    file.unlink()
    (folder / "unet/a.bin").write_bytes(pickle.dumps(Bomb(tmp_path / RAN)))
    index = {"metadata": {"total_size": 1}, "weight_map": {"conv_in.weight": "a.bin"}}
    (folder / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    for text in (
        f"pipeline: {{{SDXL}, source: ./sdxl}}",
        f"pipeline: {{{SDXL}, source: 'builtin:tiny-sdxl'}}\ncomponents: {{unet: {{source: ./sdxl/unet}}}}",
    ):
        found = refused(make_plan(text))
        assert found.code.name == "pickle-not-allowed"
        assert '"a.bin"' in found.message
    assert not (tmp_path / RAN).exists()


class TestTheGuard:
    def test_it_holds_in_this_thread_and_those_that_it_starts(self, tmp_path: Path) -> None:
        torch.save({"a": torch.ones(1)}, path := tmp_path / "x.pt")
        before = torch.load
        told = []

        def read() -> None:
            try:
                torch.load(path)
            except Refused as error:
                told.append(str(error))

        with none_read():
            read()
            thread = threading.Thread(target=read)
            thread.start()
            thread.join()
        assert told == [str(path)] * 2
        assert torch.load is before
        assert torch.load(path)["a"] == 1

    def test_others_read_meanwhile(self, tmp_path: Path) -> None:
        torch.save({"a": torch.ones(1)}, path := tmp_path / "x.pt")
        go, done = threading.Event(), []

        def read() -> None:
            go.wait()
            done.append(torch.load(path)["a"])

        thread = threading.Thread(target=read)
        thread.start()
        with none_read():
            go.set()
            thread.join()
        assert done == [1]

    def test_several_at_once_leave_nothing_behind(self) -> None:
        before = torch.load
        first, second = none_read(), none_read()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        with pytest.raises(Refused):
            torch.load("x")
        second.__exit__(None, None, None)
        assert torch.load is before

    def test_it_is_off_where_pickles_are_allowed(self) -> None:
        before = torch.load
        with none_read(allow_pickle=True):
            assert torch.load is before
