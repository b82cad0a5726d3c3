"""Files that a plan names and that are none of weights: a source, a component's, a LoRA, a target."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import planner

WRONG = {
    "notes.txt": b"hello\n",
    "model_index.json": b'{"_class_name": "FluxPipeline"}',
    "empty.ckpt": b"",
    "text.ckpt": b"not a pickle",
    "page.bin": b"<!DOCTYPE html><html>",
    "pointer.pt": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1000000\n",
    "other.plan.yaml": b"version: 1\npipeline: FluxPipeline\n",
    "noise.safetensors": b"\xff" * 100,
    "noise.gguf": b"\xff" * 100,
    "renamed.sft": b"\x08\0\0\0\0\0\0\0{}      ",
    "MODEL.GGUF": b"GGUF\x03\0\0\0",
}
"""By name, what no loader takes."""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for name, start in WRONG.items():
        (folder / name).write_bytes(start)
    for name in ("x.safetensors", "lora/a.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        save_file({"a": torch.ones(2)}, folder / name)
    torch.save({"a": torch.ones(2)}, folder / "x.ckpt")
    torch.save({"a": torch.ones(2)}, folder / "x.dat")
    torch.save({"a": torch.ones(2)}, folder / "old.pt", _use_new_zipfile_serialization=False)
    return folder


def said(here: Path, text: str, **more: object) -> planner.Validation:
    path = here / "plan.plan.yaml"
    path.write_text(f"version: 1\n{text}\n", encoding="utf-8")
    return planner.validate(path, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize(
    "plan",
    [
        "pipeline: {{class: FluxPipeline, source: {0}}}",
        "pipeline: FluxPipeline\ncomponents: {{vae: {{source: {0}}}}}",
        "pipeline: FluxPipeline\nloras: [{{lora_id: {0}}}]",
    ],
    ids=["pipeline", "component", "lora"],
)
def test_a_file_that_is_none_of_weights_is_an_error(name: str, plan: str, here: Path) -> None:
    (found,) = said(here, plan.format(f"./{name}")).errors
    assert found.code.name == "broken-folder"
    assert name in found.message
    assert found.hint
    assert found.span is not None


@pytest.mark.parametrize("name", WRONG)
def test_nor_is_it_a_target(name: str, here: Path) -> None:
    assert said(here, "pipeline: FluxPipeline", target=here / name).errors


@pytest.mark.parametrize("name", ["x.ckpt", "x.dat", "old.pt"])
def test_what_torch_saves_is_a_pickle_by_any_name(name: str, here: Path) -> None:
    result = said(here, f"pipeline: {{class: FluxPipeline, source: ./{name}}}")
    assert not result.errors
    assert "pickled-weights" in {d.code.name for d in result.warnings}


@pytest.mark.parametrize(
    ("lora", "column"),
    [
        ("{lora_id: ./none.safetensors}", 19),
        ("{lora_id: ../none}", 19),
        ("{lora_id: none}", 19),
        ("{lora_id: me/mine/file.safetensors}", 19),
        ("{lora_id: 'https://hf.co/me/mine'}", 20),
        ("{lora_id: lora, weight_name: b.safetensors}", 38),
    ],
)
def test_a_lora_that_is_not_there_is_an_error(lora: str, column: int, here: Path) -> None:
    (found,) = said(here, f"pipeline: FluxPipeline\nloras: [{lora}]").errors
    assert (found.code.name, found.span and found.span.column) == ("no-such-source", column)


@pytest.mark.parametrize(
    "lora",
    [
        *("{lora_id: me/mine}", "{lora_id: x.safetensors}", "{lora_id: lora}", "{lora_id: x.ckpt}"),
        *("{lora_id: lora, weight_name: a.safetensors}", "{lora_id: me/mine, weight_name: b.safetensors}"),
    ],
)
def test_one_that_is_there_or_on_the_hub_is_not(lora: str, here: Path) -> None:
    assert not said(here, f"pipeline: FluxPipeline\nloras: [{lora}]").errors
