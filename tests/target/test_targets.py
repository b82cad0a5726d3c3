"""What a pipeline is, from a class name, a folder and a loaded pipeline."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from planner.target import catalogue
from planner.target.find import find_target
from planner.target.folder import read_folder
from planner.target.model import Target, WalkStage

MIB = 1 << 20


def walk(cls: str) -> str:
    """A class's walk on a line: ``*`` loops steps, ``+`` loops otherwise, ``?`` is optional."""
    target = catalogue.find(cls)
    assert target is not None
    return stages(target.walk or ())


def stages(walk: tuple[WalkStage, ...]) -> str:
    marks = {"": "", "steps": "*", "times": "+"}
    made = []
    for stage in walk:
        inside = stages(stage.stages) if stage.stages else " ".join(map(str, stage.runs))
        made.append(f"({inside}){marks[stage.loop]}{'?' if stage.optional else ''}")
    return " ".join(made)


WALKS = {
    # read from each class's own __call__ in diffusers 0.42.1
    "StableDiffusionXLPipeline": "(text_encoder text_encoder_2)? (image_encoder)? (unet)* (vae.decode)?",
    "StableDiffusionXLImg2ImgPipeline": (
        "(text_encoder text_encoder_2)? (vae.encode)? (image_encoder)? (unet)* (vae.decode)?"
    ),
    "StableDiffusionXLControlNetPipeline": (
        "(text_encoder text_encoder_2)? (image_encoder)? (controlnet unet)* (vae.decode)?"
    ),
    "FluxPipeline": "(text_encoder text_encoder_2)? (image_encoder)? (transformer)* (vae.decode)?",
    "WanPipeline": "(text_encoder)? (transformer transformer_2)* (vae.decode)?",
    "WanImageToVideoPipeline": (
        "(text_encoder)? (image_encoder)? (vae.encode) (transformer transformer_2)* (vae.decode)?"
    ),
    "WanAnimatePipeline": (
        "(text_encoder)? (image_encoder)? (vae.encode) ((vae.encode) (transformer)* (vae.decode))+"
    ),
    "QwenImageEditPipeline": "(text_encoder)? (vae.encode)? (transformer)* (vae.decode)?",
    "StableVideoDiffusionPipeline": "(image_encoder) (vae.encode) (unet)* (vae.decode)?",
    "KandinskyV22CombinedPipeline": (
        "(prior_text_encoder) (prior_prior)* (prior_prior.post_process_latents) (prior_image_encoder)? "
        "(unet)* (movq.decode)?"
    ),
}


@pytest.mark.parametrize("cls", WALKS)
def test_walks_read_from_the_source(cls: str) -> None:
    assert walk(cls) == WALKS[cls]


def test_the_catalogue_has_every_class() -> None:
    names = catalogue.names("0.42.1")
    targets = [catalogue.find(name) for name in names]
    assert len(names) == 307
    assert all(t is not None for t in targets)
    sequenced = [t for t in targets if t is not None and t.sequence]
    assert len(sequenced) >= 283
    unknown = [t.cls for t in sequenced if t.walk is None]
    assert unknown == []


def test_every_use_of_a_walk_is_a_component_with_weights() -> None:
    for name in catalogue.names():
        target = catalogue.find(name)
        assert target is not None
        pending = list(target.walk or ())
        while pending:
            stage = pending.pop()
            pending += stage.stages
            assert bool(stage.stages) != bool(stage.runs), name
            for use in stage.runs:
                assert target.components[use.component].module, (name, str(use))


@pytest.mark.parametrize(
    ("specifier", "admitted"),
    [(None, True), (">=0.40", True), ("==0.42.1", True), ("<0.20", False), (">99", False)],
)
def test_the_newest_shipped_version_that_is_admitted(specifier: str | None, admitted: bool) -> None:
    version, found = catalogue.pick(specifier)
    assert found is admitted
    assert version in catalogue.versions()


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        index: dict[str, Any] = {
            "_class_name": "StableDiffusionXLPipeline",
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "text_encoder_2": [None, None],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "scheduler": ["diffusers", "EulerDiscreteScheduler"],
            "force_zeros_for_empty_prompt": True,
        }
        (tmp_path / "model_index.json").write_text(json.dumps(index))
        weights(tmp_path / "unet/diffusion_pytorch_model-00001-of-00002.safetensors", a=("F32", 1000))
        weights(tmp_path / "unet/diffusion_pytorch_model-00002-of-00002.safetensors", b=("F32", 10))
        weights(tmp_path / "vae/diffusion_pytorch_model.safetensors", a=("F32", 512))
        weights(tmp_path / "vae/diffusion_pytorch_model.fp16.safetensors", a=("F16", 512))
        weights(tmp_path / "text_encoder/model.safetensors", a=("F16", 256), ids=("I64", 77))
        return tmp_path

    def read(self, folder: Path, **more: Any) -> tuple[Target, list[str]]:
        target, found = read_folder(folder, **more)
        assert target is not None
        return target, [d.code.name for d in found]

    def test_bytes_are_those_of_the_loaded_dtype(self, folder: Path) -> None:
        target, found = self.read(folder)
        assert found == []
        assert target.components["unet"].bytes == 4096 + 512  # each tensor at a multiple of 512
        assert target.components["vae"].bytes == 2048
        assert target.components["text_encoder"].bytes == 1024 + 1024  # ids stay int64
        half, _ = self.read(folder, dtype="float16")
        assert half.components["unet"].bytes == 2048 + 512
        assert half.components["text_encoder"].bytes == 512 + 1024

    def test_none_is_not_present_and_others_have_no_weights(self, folder: Path) -> None:
        target, _ = self.read(folder)
        assert not target.components["text_encoder_2"].present
        assert not target.components["tokenizer"].module
        assert "force_zeros_for_empty_prompt" not in target.components
        assert target.walk is not None

    def test_a_variant_is_taken_where_there_is_one(self, folder: Path) -> None:
        _, found = self.read(folder, variant="fp16", dtype="float16")
        assert found == ["no-such-variant", "no-such-variant"]

    def test_a_missing_shard(self, folder: Path) -> None:
        (folder / "unet/diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
        target, found = self.read(folder)
        assert found == ["broken-folder"]
        assert target.components["unet"].bytes is None

    def test_a_file_that_is_cut_short(self, folder: Path) -> None:
        path = folder / "vae/diffusion_pytorch_model.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        assert self.read(folder)[1] == ["broken-folder"]

    @pytest.mark.parametrize(
        "data",
        [b"", b"abc", b"\xff" * 16, struct.pack("<Q", 4) + b"nope", struct.pack("<Q", 2) + b"[]"],
    )
    def test_what_is_no_safetensors_file(self, folder: Path, data: bytes) -> None:
        (folder / "vae/diffusion_pytorch_model.safetensors").write_bytes(data)
        assert self.read(folder)[1] == ["broken-folder"]

    def test_pickled_weights_alone(self, folder: Path) -> None:
        for path in (folder / "vae").iterdir():
            path.unlink()
        (folder / "vae/diffusion_pytorch_model.bin").write_bytes(b"x")
        assert self.read(folder)[1] == ["pickled-weights"]

    def test_no_weights_and_no_folder(self, folder: Path) -> None:
        for path in (folder / "vae").iterdir():
            path.unlink()
        assert self.read(folder)[1] == ["broken-folder"]
        (folder / "vae").rmdir()
        assert self.read(folder)[1] == ["broken-folder"]

    @pytest.mark.parametrize("text", ["", "[]", "{}", "{", '{"_class_name": 1'])
    def test_an_index_that_is_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "model_index.json").write_text(text)
        target, found = read_folder(tmp_path)
        assert target is None
        assert [d.code.name for d in found] == ["broken-folder"]

    def test_a_folder_is_found_beside_the_plan(self, folder: Path) -> None:
        target, found = find_target(
            "StableDiffusionXLPipeline", folder.name, relative_to=folder.parent, dtype="float32"
        )
        assert target is not None
        assert target.origin == "folder"
        assert found == []

    def test_a_folder_on_another_machine_is_a_note(self, tmp_path: Path) -> None:
        target, found = find_target("FluxPipeline", "./not-here", relative_to=tmp_path)
        assert target is not None
        assert [d.code.name for d in found] == ["sizes-not-known"]


def weights(path: Path, **tensors: tuple[str, int]) -> None:
    """A safetensors file of zeros: dtype and number of elements by name."""
    size = {"F32": 4, "F16": 2, "I64": 8}
    header, at = {}, 0
    for name, (dtype, count) in tensors.items():
        header[name] = {"dtype": dtype, "shape": [count], "data_offsets": [at, at + count * size[dtype]]}
        at += count * size[dtype]
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))
