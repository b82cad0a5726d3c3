"""Weights read straight into memory: the same model as ``from_pretrained`` makes, in other memory."""

from __future__ import annotations

import copy
import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
import transformers
from pipelines.all import build
from pipelines.registry import one_a_family
from pipelines.wide import WIDE
from safetensors.torch import load_file, save_file

import planner
from planner.device.pinned import file_backed
from planner.diagnostics.diagnostic import PlanError
from planner.loading.builtin import NAMES, builtin_folder, dtype_argument, quiet
from planner.loading.direct import read_in
from planner.loading.failure import explain
from planner.loading.pipeline import load_pipeline
from planner.session.checks import modules_of
from planner.virtual.device import SimDevice

CLASSES = {"tiny-sdxl": "StableDiffusionXLPipeline", "tiny-flux": "FluxPipeline", "tiny-wan": "WanPipeline"}


def tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers, tied ones under each of their names."""
    both = (module.named_parameters, module.named_buffers)
    return {name: tensor for named in both for name, tensor in named(remove_duplicate=False)}


def content(tensor: torch.Tensor) -> Any:
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy()


def facts(module: torch.nn.Module) -> dict[str, Any]:
    """All that can be told of a model without running it."""
    found = tensors(module)
    first = {id(tensor): name for name, tensor in reversed(found.items())}
    return {
        "class": type(module),
        "tensors": {
            name: (
                type(tensor),
                tensor.dtype,
                tensor.device,
                tensor.shape,
                tensor.stride(),
                tensor.requires_grad,
                first[id(tensor)],
                "" if tensor.is_meta else hashlib.sha256(content(tensor)).hexdigest(),
            )
            for name, tensor in found.items()
        },
        "persistent": sorted(module.state_dict()),
        "modules": {
            name: (type(part), part.training, sorted(vars(part))) for name, part in module.named_modules()
        },
        "config": str(getattr(module, "config", None)),
        "path": getattr(module, "name_or_path", None),
        "generation": str(getattr(module, "generation_config", None)),
    }


def in_files(module: torch.nn.Module) -> list[str]:
    places = {name: tensor.data_ptr() for name, tensor in tensors(module).items()}
    found = file_backed(places.values())
    return [name for name, place in places.items() if place in found]


def theirs(folder: Path, dtype: str = "float32", **options: Any) -> Any:
    with quiet():
        return diffusers.DiffusionPipeline.from_pretrained(
            folder, **{dtype_argument(): getattr(torch, dtype)}, **options
        )


def alone(model: torch.nn.Module) -> Any:
    """A pipeline of one component, as far as reading goes."""
    return SimpleNamespace(components={"model": model})


def agree(make: Callable[[], torch.nn.Module]) -> int:
    """A model read in is the one that it was; returns how many bytes were read."""
    with quiet():
        mine, other = make(), make()
    before = {name: id(tensor) for name, tensor in tensors(mine).items()}
    (count,) = read_in(alone(mine)).values()
    assert {name: id(tensor) for name, tensor in tensors(mine).items()} == before
    assert facts(mine) == facts(other)
    assert in_files(mine) == []
    return count


def size(module: torch.nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_the_built_ins_are_as_diffusers_loads_them(name: str, dtype: str, make_plan: Any) -> None:
    text = f"pipeline: {{class: {CLASSES[name]}, source: 'builtin:{name}', dtype: {dtype}}}"
    mine, other = load_pipeline(make_plan(text)), theirs(builtin_folder(name), dtype)
    assert mine.components.keys() == other.components.keys()
    assert sorted(vars(mine)) == sorted(vars(other))
    for key, module in modules_of(mine).items():
        assert facts(module) == facts(modules_of(other)[key])
        assert in_files(module) == []


@pytest.mark.parametrize("name", NAMES)
def test_what_is_stored_as_it_is_used_is_read_whole_and_the_rest_is_there_already(name: str) -> None:
    whole = theirs(builtin_folder(name))
    sizes = {key: size(module) for key, module in modules_of(whole).items()}
    assert read_in(whole) == sizes
    assert read_in(whole) == dict.fromkeys(sizes, 0)
    cast = theirs(builtin_folder(name), "bfloat16")
    assert all(count < sizes[key] / 4 for key, count in read_in(cast).items())  # what stays float32


def test_nothing_is_mapped_any_more(tmp_path: Path, make_plan: Any) -> None:
    theirs(builtin_folder("tiny-flux")).save_pretrained(tmp_path / "pipe")
    pipe = load_pipeline(make_plan("pipeline: {class: FluxPipeline, source: ./pipe}"))
    assert pipe.transformer.dtype is torch.float32
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_a_component_may_be_left_as_it_is() -> None:
    pipe = theirs(builtin_folder("tiny-sdxl"))
    assert read_in(pipe, without={"unet"}).keys() == modules_of(pipe).keys() - {"unet"}
    assert in_files(pipe.unet)
    assert not in_files(pipe.vae)


def test_what_components_share_is_read_once(tmp_path: Path) -> None:
    """A module of one in another, as ZImageControlNet has its transformer's, and a parameter over the same
    bytes; the one that has them all may come first or last."""
    for names in (("whole", "part", "view"), ("view", "part", "whole")):
        whole = diffusers.UNet2DModel.from_pretrained(_small_unet(tmp_path))
        before = {name: content(tensor).copy() for name, tensor in tensors(whole).items()}
        part = torch.nn.ModuleDict({"last": whole.conv_out, "first": whole.conv_in})
        view = torch.nn.Module()
        view.weight = torch.nn.Parameter(whole.conv_in.weight[1:])
        models = {"whole": whole, "part": part, "view": view}
        sizes = read_in(SimpleNamespace(components={name: models[name] for name in names}))
        assert sum(sizes.values()) == size(whole)
        assert {name: bytes(content(tensor)) for name, tensor in tensors(whole).items()} == {
            name: bytes(old) for name, old in before.items()
        }
        assert not in_files(whole)
        assert view.weight.data_ptr() == whole.conv_in.weight[1:].data_ptr()


def _small_unet(folder: Path) -> Path:
    made = diffusers.UNet2DModel(
        block_out_channels=(4,),
        norm_num_groups=2,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )
    made.save_pretrained(folder)
    return folder


SHARING = ["ZImageControlNetPipeline"]  # it makes its components of one another
OTHERS = [name if name in SHARING else pytest.param(name, marks=pytest.mark.wide) for name in WIDE]


@pytest.mark.parametrize("name", [*one_a_family(), *OTHERS])
def test_a_class_saved_is_loaded_as_diffusers_does(name: str, tmp_path: Path, make_plan: Any) -> None:
    with quiet():
        made = build(name)
        made.save_pretrained(tmp_path / "pipe")
    try:
        other = theirs(tmp_path / "pipe")
    except (AttributeError, ImportError, ValueError) as error:  # diffusers cannot load what it saved
        pytest.skip(str(error))
    mine = load_pipeline(make_plan(f"pipeline: {{class: {type(made).__name__}, source: ./pipe}}"))
    for key, module in modules_of(mine).items():
        assert facts(module) == facts(modules_of(other)[key])
        assert in_files(module) == []


def test_shards_and_variants(tmp_path: Path, make_plan: Any) -> None:
    pipe = theirs(builtin_folder("tiny-flux"), "float16")
    pipe.save_pretrained(tmp_path / "pipe", max_shard_size="300KB", variant="fp16")
    assert len([*(tmp_path / "pipe" / "transformer").glob("*-of-*.safetensors")]) > 3
    text = "pipeline: {class: FluxPipeline, source: ./pipe, dtype: float16, variant: fp16}"
    mine = load_pipeline(make_plan(text))
    other = theirs(tmp_path / "pipe", "float16", variant="fp16")
    for key, module in modules_of(mine).items():
        assert facts(module) == facts(modules_of(other)[key])
        assert in_files(module) == []
    assert sum(read_in(other).values()) == sum(size(m) for m in modules_of(mine).values())


def test_renamed_keys(tmp_path: Path) -> None:
    """The VAE's attention of old files: ``query`` for ``to_q`` (diffusers renames them as it loads)."""
    from diffusers import AutoencoderKL

    vae = theirs(builtin_folder("tiny-sdxl")).vae
    vae.save_pretrained(tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    stored = load_file(path)
    renamed = {key: value.clone() for key, value in stored.items()}
    for key in [*renamed]:
        for new, name in old.items():
            if f"mid_block.attentions.0.{new}." in key:
                renamed[key.replace(new, name)] = renamed.pop(key)
    assert renamed.keys() != stored.keys()
    save_file(renamed, path)
    assert agree(lambda: AutoencoderKL.from_pretrained(tmp_path)) == size(vae)


def test_pickled_weights(tmp_path: Path) -> None:
    """diffusers maps those as well."""
    vae = theirs(builtin_folder("tiny-sdxl")).vae
    vae.save_pretrained(tmp_path, safe_serialization=False)
    assert agree(lambda: type(vae).from_pretrained(tmp_path, use_safetensors=False)) == size(vae)


@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
def test_modules_that_stay_in_float32(tmp_path: Path, stored: torch.dtype) -> None:
    config = transformers.T5Config(
        d_model=32, d_ff=64, num_layers=2, num_heads=2, d_kv=16, vocab_size=64, feed_forward_proj="gated-gelu"
    )
    transformers.T5EncoderModel(config).to(stored).save_pretrained(tmp_path / "t5")
    made = {dtype_argument(): torch.float16}
    load = lambda: transformers.T5EncoderModel.from_pretrained(tmp_path / "t5", dtype=torch.float16)  # noqa: E731
    count, model = agree(load), load()
    kept = [p for name, p in model.named_parameters() if ".wo." in name]
    assert {p.dtype for p in kept} == {torch.float32}
    cast = size(model) - sum(p.numel() * 4 for p in kept)
    assert count == (size(model) - cast if stored is torch.float32 else cast)

    theirs(builtin_folder("tiny-wan")).transformer.to(stored).save_pretrained(tmp_path / "wan")
    wan = lambda: diffusers.WanTransformer3DModel.from_pretrained(tmp_path / "wan", **made)  # noqa: E731
    assert 0 < agree(wan) < size(wan())
    assert {p.dtype for p in wan().parameters()} == {torch.float16, torch.float32}


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"d_model": 32, "d_ff": 64, "num_layers": 2, "num_heads": 2, "d_kv": 16}
    t5 = transformers.T5Config(vocab_size=64, **sizes)
    for cls in (transformers.T5EncoderModel, transformers.T5ForConditionalGeneration):
        cls(t5).save_pretrained(tmp_path / cls.__name__)
        load = lambda cls=cls: cls.from_pretrained(tmp_path / cls.__name__)  # noqa: E731
        model = load()
        assert agree(load) == size(model)
        read_in(alone(model))
        assert model.encoder.embed_tokens.weight is model.shared.weight
    text = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    vision = text | {"image_size": 32, "patch_size": 8}
    clip = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision))
    clip.save_pretrained(tmp_path / "clip")
    assert agree(lambda: transformers.CLIPModel.from_pretrained(tmp_path / "clip")) == size(clip)
    gpt = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=64))
    gpt.save_pretrained(tmp_path / "gpt")
    again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "gpt")
    read_in(alone(again))
    assert again.lm_head.weight is again.transformer.wte.weight


def test_a_component_of_its_own_source(tmp_path: Path, make_plan: Any) -> None:
    theirs(builtin_folder("tiny-flux")).transformer.save_pretrained(tmp_path / "mine")
    text = "pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}\n"
    pipe = load_pipeline(make_plan(f"{text}components: {{transformer: {{source: ./mine}}}}"))
    assert in_files(pipe.transformer) == []


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def no_header(path: Path) -> None:
    path.write_bytes(b"x" * 64)


def other_shape(path: Path) -> None:
    stored = load_file(path)
    name = next(name for name in stored if stored[name].dim() > 1)
    save_file(stored | {name: stored[name][:-1].clone()}, path)


@pytest.mark.parametrize("harm", [truncated, no_header, other_shape])
@pytest.mark.parametrize("where", ["unet/diffusion_pytorch_model", "text_encoder/model"])
def test_a_file_that_does_not_do_is_told_of_as_before(
    tmp_path: Path, make_plan: Any, harm: Callable[[Path], None], where: str
) -> None:
    theirs(builtin_folder("tiny-sdxl")).save_pretrained(tmp_path / "sdxl")
    harm(tmp_path / "sdxl" / f"{where}.safetensors")
    with pytest.raises(Exception) as other:  # noqa: PT011  # each library has its own
        theirs(tmp_path / "sdxl", use_safetensors=True)
    plan = make_plan("pipeline: {class: StableDiffusionXLPipeline, source: ./sdxl}")
    with pytest.raises(PlanError) as caught:
        load_pipeline(plan)
    assert caught.value.diagnostics == (explain(other.value, plan, tmp_path / "sdxl"),)
    assert type(caught.value.__cause__) is other.type


def test_what_a_file_lacks_and_what_it_has_too_much(tmp_path: Path) -> None:
    """diffusers leaves what is missing on the meta device, and warns."""
    theirs(builtin_folder("tiny-sdxl")).unet.save_pretrained(tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    stored = load_file(path)
    save_file({name: stored[name].clone() for name in [*stored][1:]} | {"more": torch.zeros(3)}, path)
    assert agree(lambda: diffusers.UNet2DConditionModel.from_pretrained(tmp_path)) > 0


def test_a_file_cut_short_while_it_is_read_is_an_error_with_its_name(
    tmp_path: Path, make_plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs(builtin_folder("tiny-sdxl")).save_pretrained(tmp_path / "sdxl")
    monkeypatch.setattr(os, "preadv", lambda *_: 0)
    with pytest.raises(PlanError) as caught:
        load_pipeline(make_plan("pipeline: {class: StableDiffusionXLPipeline, source: ./sdxl}"))
    (found,) = caught.value.diagnostics
    assert found.code.name == "loading-failed"
    assert 'safetensors" became shorter while it was read' in found.message


def test_what_is_saved_and_copied_is_the_model_and_nothing_else(tmp_path: Path) -> None:
    mine, other = (theirs(builtin_folder("tiny-flux")).transformer for _ in range(2))
    read_in(alone(mine))
    for number, model in enumerate((mine, other)):
        model.save_pretrained(tmp_path / str(number), max_shard_size="300KB")
    saved = [
        {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (tmp_path / str(n)).iterdir()}
        for n in range(2)
    ]
    assert saved[0] == saved[1]
    assert len(saved[0]) > 3
    mine_saved, other_saved = io.BytesIO(), io.BytesIO()
    torch.save(mine.state_dict(), mine_saved)
    torch.save(other.state_dict(), other_saved)
    assert mine_saved.tell() < 1.1 * size(mine)
    assert facts(copy.deepcopy(mine)) == facts(other)


def test_a_session_leaves_large_weights_where_they_lie(
    make_plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planner.target.extents.PACKED", 10_000)
    plan = make_plan("pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}")
    pipe = load_pipeline(plan)
    found = [t for m in modules_of(pipe).values() for t in m.parameters()]
    large = {id(t): t.data_ptr() for t in found if t.numel() * t.element_size() >= 10_000}
    assert len(large) > 50
    assert all(place % 512 == next(iter(large.values())) % 512 for place in large.values())
    SimDevice()
    with planner.apply(plan, pipe, device="sim:0"):
        assert {id(t): t.data_ptr() for t in found if id(t) in large} == large
