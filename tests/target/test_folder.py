"""A folder's bytes are those of the pipeline that loads from it; what is not whole is said, not raised."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.diagnostics.diagnostic import Diagnostic, Severity, errors
from planner.target.component import Asked, Given
from planner.target.folder import read_folder
from planner.target.model import Target, device_bytes
from planner.target.place import place_of

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U8": 1, "F8_E4M3": 1}


def header_of(**tensors: tuple[str, int]) -> tuple[dict[str, Any], int]:
    """A header, dtype and number of elements by name, and the bytes that it is for."""
    header: dict[str, Any] = {}
    at = 0
    for name, (dtype, count) in tensors.items():
        end = at + count * SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": [count], "data_offsets": [at, end]}
        at = end
    return header, at


def save(path: Path, **tensors: tuple[str, int]) -> None:
    """A safetensors file of zeros."""
    header, size = header_of(**tensors)
    text = json.dumps(header | {"__metadata__": {"format": "pt"}}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))


def component(path: Path, config: Any = None) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config or {}))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny SDXL: a sharded UNet, a VAE in two variants, a text encoder in float16, another left out."""
    root = tmp_path / "sdxl"
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionXLPipeline",
        "_diffusers_version": "0.42.1",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": [None, None],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "force_zeros_for_empty_prompt": True,
    }
    unet = component(root / "unet")
    save(unet / "diffusion_pytorch_model-00001-of-00002.safetensors", a=("F32", 1000))
    save(unet / "diffusion_pytorch_model-00002-of-00002.safetensors", b=("F32", 10))
    shards = {
        name: f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n, name in ((1, "a"), (2, "b"))
    }
    text = json.dumps({"metadata": {"total_size": 4040}, "weight_map": shards})
    (unet / "diffusion_pytorch_model.safetensors.index.json").write_text(text)
    vae = component(root / "vae")
    save(vae / "diffusion_pytorch_model.safetensors", a=("F32", 512))
    save(vae / "diffusion_pytorch_model.fp16.safetensors", a=("F16", 600))
    save(component(root / "text_encoder") / "model.safetensors", a=("F16", 256), ids=("I64", 77))
    (root / "model_index.json").write_text(json.dumps(index))
    return root


def own_sources(**sources: Path | str) -> dict[str, Given]:
    return {
        name: Given(place=place_of(str(source)), asked=Asked(pointer=f"/components/{name}/source"))
        for name, source in sources.items()
    }


def edit(folder: Path, **entries: Any) -> None:
    """Changes model_index.json; ``...`` takes a key out."""
    path = folder / "model_index.json"
    index = json.loads(path.read_text()) | entries
    path.write_text(json.dumps({key: value for key, value in index.items() if value is not ...}))


def read(folder: Path, **more: Any) -> tuple[Target, list[Diagnostic]]:
    target, found = read_folder(folder, **more)
    assert target is not None
    return target, found


def said(found: list[Diagnostic]) -> list[str]:
    return [f"{d.severity.value} {d.code.name}: {d.message}" for d in found]


def sizes(target: Target) -> dict[str, int | None]:
    return {name: target.components[name].bytes for name in ("unet", "vae", "text_encoder")}


class TestBytes:
    @pytest.mark.parametrize("dtype", [None, "float32"])
    def test_of_float32(self, folder: Path, dtype: str | None) -> None:
        target, found = read(folder, dtype=dtype)
        assert found == []
        assert sizes(target) == {
            "unet": 4096 + 512,  # each tensor at a multiple of 512
            "vae": 2048,
            "text_encoder": 1024 + 1024,  # ids stay int64
        }

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_of_half(self, folder: Path, dtype: str) -> None:
        target, _ = read(folder, dtype=dtype)
        assert sizes(target) == {"unet": 2048 + 512, "vae": 1024, "text_encoder": 512 + 1024}

    def test_of_float8_that_is_loaded_as_half(self, folder: Path) -> None:
        save(folder / "vae/diffusion_pytorch_model.safetensors", a=("F8_E4M3", 512))
        assert sizes(read(folder, dtype="bfloat16")[0])["vae"] == 1024

    def test_of_weights_that_are_stored_quantized(self, folder: Path) -> None:
        component(folder / "vae", {"quantization_config": {"quant_method": "bitsandbytes"}})
        save(
            folder / "vae/diffusion_pytorch_model.safetensors", a=("U8", 512), b=("F32", 128), c=("F16", 512)
        )
        assert sizes(read(folder, dtype="bfloat16")[0])["vae"] == 512 + 512 + 1024

    def test_of_what_a_class_keeps_in_float32(self, folder: Path) -> None:
        index = {"_class_name": "WanPipeline", "transformer": ["diffusers", "WanTransformer3DModel"]}
        (folder / "model_index.json").write_text(json.dumps(index))
        wan = component(folder / "transformer")
        path = wan / "diffusion_pytorch_model.safetensors"
        save(path, **{"blocks.0.norm1.weight": ("F32", 1000), "blocks.0.norm10.weight": ("F32", 1000)})
        assert read(folder, dtype="bfloat16")[0].components["transformer"].bytes == 4096 + 2048

    def test_of_a_tied_embedding_that_is_stored_twice(self, folder: Path) -> None:
        path = folder / "text_encoder/model.safetensors"
        save(path, **{"shared.weight": ("F32", 1024), "encoder.embed_tokens.weight": ("F32", 1024)})
        assert sizes(read(folder)[0])["text_encoder"] == 4096


class TestConverted:
    """What of the files loading converts, which a session cannot read as it lies there."""

    @pytest.mark.parametrize(
        ("dtype", "unet", "vae", "text_encoder"),
        [("float32", 0, 0, 512), ("float16", 4 * 1010, 2048, 0), ("bfloat16", 4 * 1010, 2048, 512)],
    )
    def test_by_the_dtype_that_is_asked_for(
        self, folder: Path, dtype: str, unet: int, vae: int, text_encoder: int
    ) -> None:
        target, _ = read(folder, dtype=dtype)
        found = {name: target.components[name].converted for name in ("unet", "vae", "text_encoder")}
        assert found == {"unet": unet, "vae": vae, "text_encoder": text_encoder}

    def test_none_where_it_is_kept_in_float32(self, folder: Path) -> None:
        index = {"_class_name": "WanPipeline", "transformer": ["diffusers", "WanTransformer3DModel"]}
        (folder / "model_index.json").write_text(json.dumps(index))
        path = component(folder / "transformer") / "diffusion_pytorch_model.safetensors"
        save(path, **{"blocks.0.norm2.weight": ("F32", 1000), "blocks.0.ffn.weight": ("BF16", 1000)})
        assert read(folder, dtype="bfloat16")[0].components["transformer"].converted == 0
        assert read(folder, dtype="float16")[0].components["transformer"].converted == 2000

    def test_not_known_of_weights_that_are_stored_quantized(self, folder: Path) -> None:
        component(folder / "vae", {"quantization_config": {"quant_method": "bitsandbytes"}})
        assert read(folder)[0].components["vae"].converted is None


class TestFiles:
    def test_a_variant_is_taken_where_there_is_one(self, folder: Path) -> None:
        target, found = read(folder, variant="fp16", dtype="float16")
        assert sizes(target)["vae"] == 1536
        assert said(found) == [
            f'warning no-such-variant: "{name}" has no files of variant "fp16": the plain ones are taken'
            for name in ("text_encoder", "unet")
        ]

    def test_a_variant_that_nobody_has(self, folder: Path) -> None:
        _, found = read(folder, variant="fp61")
        assert said(found) == ['error no-such-variant: "sdxl" has no files of variant "fp61" at all']

    @pytest.mark.parametrize("name", ["index.fp16.json", "fp16.index.json"])
    def test_a_variant_in_shards(self, folder: Path, name: str) -> None:
        unet = folder / "unet"
        shard = "diffusion_pytorch_model.fp16-00001-of-00001.safetensors"
        save(unet / shard, a=("F16", 256))
        (unet / f"diffusion_pytorch_model.safetensors.{name}").write_text(
            json.dumps({"weight_map": {"a": shard}})
        )
        assert sizes(read(folder, variant="fp16", dtype="float16")[0])["unet"] == 512

    def test_diffusers_takes_shards_first_and_transformers_a_whole_file(self, folder: Path) -> None:
        save(folder / "unet/diffusion_pytorch_model.safetensors", a=("F32", 1))
        shard = "model-00001-of-00001.safetensors"
        save(folder / "text_encoder" / shard, a=("F32", 9000))
        index = {"weight_map": {"a": shard}}
        (folder / "text_encoder/model.safetensors.index.json").write_text(json.dumps(index))
        target, found = read(folder)
        assert found == []
        assert (sizes(target)["unet"], sizes(target)["text_encoder"]) == (4608, 2048)

    def test_files_of_another_library_are_not_read(self, folder: Path) -> None:
        (folder / "vae/diffusion_pytorch_model.safetensors").rename(folder / "vae/model.safetensors")
        (folder / "vae/diffusion_pytorch_model.fp16.safetensors").unlink()
        assert said(read(folder)[1]) == ['error broken-folder: "sdxl": vae has no weight files']


class TestBroken:
    def broken(self, folder: Path, component: str = "vae") -> str:
        target, found = read(folder)
        assert target.components[component].bytes is None
        assert [d.code.name for d in found] == ["broken-folder"]
        return found[0].message

    def test_a_shard_that_is_missing(self, folder: Path) -> None:
        name = "diffusion_pytorch_model-00002-of-00002.safetensors"
        (folder / "unet" / name).unlink()
        assert self.broken(folder, "unet") == f'"sdxl": unet lacks the shard "{name}"'

    def test_shards_without_an_index(self, folder: Path) -> None:
        (folder / "unet/diffusion_pytorch_model.safetensors.index.json").unlink()
        assert self.broken(folder, "unet") == '"sdxl": unet has shards and no index of them'

    def test_a_shard_without_its_tensor(self, folder: Path) -> None:
        name = "diffusion_pytorch_model-00002-of-00002.safetensors"
        save(folder / "unet" / name, c=("F32", 10))
        assert self.broken(folder, "unet") == f'"sdxl": unet/{name} lacks the tensor "b" that its index names'

    @pytest.mark.parametrize(
        "text", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', "[" * 100_000]
    )
    def test_an_index_of_shards_that_is_none(self, folder: Path, text: str) -> None:
        (folder / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(text)
        self.broken(folder, "unet")

    def test_an_index_that_leads_out_of_the_folder(self, folder: Path) -> None:
        text = json.dumps({"weight_map": {"a": "../vae/diffusion_pytorch_model.safetensors"}})
        (folder / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(text)
        self.broken(folder, "unet")

    def test_a_file_that_is_cut_short(self, folder: Path) -> None:
        path = folder / "vae/diffusion_pytorch_model.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        assert "is cut short: " in self.broken(folder)

    def test_a_file_whose_ends_of_lines_were_changed(self, folder: Path) -> None:
        path = folder / "vae/diffusion_pytorch_model.safetensors"
        path.write_bytes(path.read_bytes() + b"\r")
        assert "is longer than its header says: " in self.broken(folder)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"abc",
            b"\xff" * 16,
            b"version https://git-lfs.github.com/spec/v1\n",
            struct.pack("<Q", 4) + b"nope",
            struct.pack("<Q", 2) + b"[]",
            struct.pack("<Q", 200_000) + b"[" * 200_000,
        ],
    )
    def test_what_is_no_safetensors_file(self, folder: Path, data: bytes) -> None:
        (folder / "vae/diffusion_pytorch_model.safetensors").write_bytes(data)
        self.broken(folder)

    @pytest.mark.parametrize(
        "entry",
        [
            3,
            {},
            {"dtype": "F32", "shape": 4, "data_offsets": [0, 16]},
            {"dtype": "F32", "shape": None, "data_offsets": [0, 16]},
            {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 16]},
            {"dtype": "F32", "shape": [True, 4], "data_offsets": [0, 16]},
            {"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]},
            {"dtype": "F32", "shape": [1e99], "data_offsets": [0, 16]},
            {"dtype": "F32", "shape": [4], "data_offsets": [0, "16"]},
            {"dtype": "F32", "shape": [4], "data_offsets": [16]},
            {"dtype": "F32", "shape": [4], "data_offsets": [0, 15]},
            {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]},
            {"dtype": None, "shape": [4], "data_offsets": [0, 16]},
        ],
    )
    def test_a_header_that_makes_no_sense(self, folder: Path, entry: Any) -> None:
        text = json.dumps(
            {"good": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}, "a": entry}
        ).encode()
        path = folder / "vae/diffusion_pytorch_model.safetensors"
        path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(64))
        self.broken(folder)

    def test_no_weights_no_config_and_no_folder(self, folder: Path) -> None:
        (folder / "vae/config.json").unlink()
        assert self.broken(folder) == '"sdxl": vae/config.json cannot be read: No such file or directory'
        component(folder / "vae")
        for path in (folder / "vae").glob("*.safetensors"):
            path.unlink()
        assert self.broken(folder) == '"sdxl": vae has no weight files'
        (folder / "vae/config.json").unlink()
        (folder / "vae").rmdir()
        assert self.broken(folder) == '"sdxl": there is no folder "vae"'

    def test_pickled_weights_alone(self, folder: Path) -> None:
        for path in (folder / "vae").glob("*.safetensors"):
            path.unlink()
        (folder / "vae/diffusion_pytorch_model.bin").write_bytes(b"x")
        target, found = read(folder)
        assert said(found) == ['warning pickled-weights: "vae" has only pickled weights']
        assert target.components["vae"].bytes is None

    @pytest.mark.parametrize(
        "text",
        ["", "[]", "{}", "{", '{"_class_name": 1}', '{"_class_name": ["a"]}', "\udcff", "[" * 100_000],
    )
    def test_an_index_that_is_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "model_index.json").write_bytes(text.encode("utf-8", "surrogateescape"))
        target, found = read_folder(tmp_path)
        assert target is None
        assert [d.code.name for d in found] == ["broken-folder"]

    @pytest.mark.parametrize("value", [3, "x", [], ["a"], ["diffusers", 3], [None, "x"], {}, None])
    def test_an_entry_of_an_optional_component_that_is_none(self, folder: Path, value: Any) -> None:
        edit(folder, feature_extractor=value)
        _, found = read(folder)
        assert [d.code.name for d in found] == ["broken-folder"]
        assert f'"feature_extractor" of model_index.json is {json.dumps(value)}' in found[0].message

    @pytest.mark.parametrize("value", [3, "unet", [], ["a"], ["diffusers", 3], [None, "x"], {}, None])
    def test_an_entry_that_is_none(self, folder: Path, value: Any) -> None:
        edit(folder, unet=value)
        _, found = read(folder)
        assert said(found) == [
            'error broken-folder: "sdxl": model_index.json has no "unet", '
            "which StableDiffusionXLPipeline needs"
        ]

    def test_a_name_that_leads_out_of_the_folder(self, folder: Path) -> None:
        edit(folder, _class_name="MyOwnThing", **{"../sdxl/vae": ["diffusers", "AutoencoderKL"]})
        assert "../sdxl/vae" not in read(folder)[0].components

    def test_a_modular_pipeline(self, tmp_path: Path) -> None:
        (tmp_path / "modular_model_index.json").write_text("{}")
        _, found = read_folder(tmp_path)
        assert [d.code.name for d in found] == ["modular-class"]


class TestClasses:
    def test_none_is_not_present_and_others_have_no_weights(self, folder: Path) -> None:
        target, _ = read(folder)
        assert not target.components["text_encoder_2"].present
        assert not target.components["image_encoder"].present
        assert not target.components["tokenizer"].module
        assert "force_zeros_for_empty_prompt" not in target.components
        assert target.walk is not None
        assert target.origin == "folder"

    def test_what_the_class_does_not_take_is_not_loaded(self, folder: Path) -> None:
        edit(folder, vae_2=["diffusers", "AutoencoderKL"])
        target, found = read(folder)
        assert found == []
        assert "vae_2" not in target.components

    def test_a_class_that_diffusers_does_not_have(self, folder: Path) -> None:
        edit(folder, _class_name=["pipeline", "MyCompanysVerySpecialThing"])
        target, found = read(folder)
        assert [(d.code.name, d.severity) for d in found] == [("unknown-class", Severity.WARNING)]
        assert target.cls == "MyCompanysVerySpecialThing"
        assert target.walk is None
        assert target.modules == ("unet", "vae", "text_encoder")

    @pytest.mark.parametrize(
        "cls",
        [
            "StableDiffusionXLImg2ImgPipeline",
            "StableDiffusionXLInpaintPipeline",
            "LEditsPPPipelineStableDiffusionXL",
        ],
    )
    def test_a_folder_serves_other_classes(self, folder: Path, cls: str) -> None:
        target, found = read(folder, cls=cls)
        assert not errors(found)
        assert target.cls == cls
        assert target.walk is not None
        assert any(str(use) == "vae.encode" for stage in target.walk for use in stage.runs)
        assert sizes(target) == sizes(read(folder)[0])

    @pytest.mark.parametrize("cls", ["FluxPipeline", "StableDiffusionXLControlNetPipeline", "NoSuchPipeline"])
    def test_but_not_a_class_that_needs_more(self, folder: Path, cls: str) -> None:
        assert read(folder, cls=cls)[0].cls == "StableDiffusionXLPipeline"

    def test_nor_one_with_other_models(self, folder: Path) -> None:
        edit(folder, _class_name="TextToVideoSDPipeline", unet=["diffusers", "UNet3DConditionModel"])
        assert read(folder, cls="StableDiffusionPipeline")[0].cls == "TextToVideoSDPipeline"

    def test_a_component_with_a_source_of_its_own(self, folder: Path) -> None:
        own = component(folder.parent / "canny")
        save(own / "diffusion_pytorch_model.safetensors", a=("F32", 256))
        cls = "StableDiffusionXLControlNetPipeline"
        target, found = read(folder, cls=cls, given=own_sources(controlnet=own))
        assert found == []
        assert target.cls == cls
        assert target.components["controlnet"].bytes == 1024
        away = read(folder, cls=cls, given=own_sources(controlnet="me/canny"))[0].components["controlnet"]
        assert (away.present, away.bytes) == (True, None)


LOADED = (
    "StableDiffusionXLPipeline",
    "StableDiffusion3Pipeline",
    "FluxPipeline",
    "PixArtAlphaPipeline",
    "WanPipeline",
    "CogVideoXPipeline",
    "QwenImagePipeline",
)


@pytest.mark.parametrize("name", LOADED)
def test_a_loaded_pipeline_has_the_bytes_that_its_folder_told(name: str, tmp_path: Path) -> None:
    """But for the buffers that are not saved."""
    import torch
    from pipelines.all import build

    from planner.target.loaded import describe

    build(name).save_pretrained(tmp_path / "whole", max_shard_size="40KB")
    build(name).to(torch.float16).save_pretrained(tmp_path / "half", variant="fp16")
    for kind, dtype in (
        ("whole", "float32"),
        ("whole", "bfloat16"),
        ("half", "float16"),
        ("half", "float32"),
    ):
        variant = "fp16" if kind == "half" else None
        told, found = read(tmp_path / kind, dtype=dtype, variant=variant)
        assert found == []
        pipe = type(build(name)).from_pretrained(
            tmp_path / kind, variant=variant, torch_dtype=getattr(torch, dtype), use_safetensors=True
        )
        there = describe(pipe)
        assert set(told.modules) == set(there.modules)
        for part in there.modules:
            module = getattr(pipe, part)
            assert told.components[part].present == (module is not None)
            if module is None:
                continue
            unsaved = device_bytes(
                owner._buffers[key].nbytes
                for owner in module.modules()
                for key in owner._non_persistent_buffers_set
                if owner._buffers[key] is not None
            )
            assert there.components[part].bytes == (told.components[part].bytes or 0) + unsaved, (part, dtype)


@settings(max_examples=100)
@given(data=st.data())
def test_nothing_in_a_folder_raises(folder: Path, data: st.DataObject) -> None:
    """Any file of it with bytes changed, cut or put in."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    whole = path.read_bytes()
    start = data.draw(st.integers(0, min(len(whole), 400)))
    end = data.draw(st.integers(start, min(len(whole), start + 40)))
    path.write_bytes(whole[:start] + data.draw(st.binary(max_size=40)) + whole[end:])
    try:
        for cls in (None, "StableDiffusionXLImg2ImgPipeline"):
            target, found = read_folder(folder, cls=cls, dtype="bfloat16", variant="fp16")
            assert target is not None or errors(found)
    finally:
        path.write_bytes(whole)
