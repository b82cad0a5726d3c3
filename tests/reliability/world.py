"""The same operations on a pipeline under a plan and on a plain one that goes to the device for a call."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict
from pipelines.all import arguments, build, run, same
from pipelines.plans import attached, plan_for

from planner.virtual.device import SimDevice

SD = "StableDiffusionPipeline"

USUAL = ("stream, kept", "offload", "resident")
"""Modes of every run of the tests; the others are in ``pytest -m wide``."""

MODES: dict[str, tuple[str, ...]] = {
    "offload": (),
    "offload, kept": ("idle: keep",),
    "stream": (
        "components: {unet: {policy: stream, prefetch: 1}, vae: stream, text_encoder: {policy: stream}}",
    ),
    "stream, kept": (
        "components: {unet: {policy: stream, resident: 40%, prefetch: 1}, text_encoder: stream}",
        "idle: keep",
    ),
    "resident": ("components: {unet: resident, text_encoder: resident}",),
    "excluded": ("exclude: [vae]",),
}


def modes() -> list[Any]:
    """Parameters: the usual ones, and the others in ``pytest -m wide``."""
    return [mode if mode in USUAL else pytest.param(mode, marks=pytest.mark.wide) for mode in MODES]


class Stop(Exception):
    """Raised by a step callback."""


class World:
    """One pipeline. ``planned``: under a plan; else it is moved to the device for a call, and back."""

    def __init__(self, folder: Path, mode: str | None, cls: str = SD) -> None:
        self.folder = folder
        self.cls = cls
        self.planned = mode is not None
        self.pipe = build(cls)
        self.pipe.tokenizer = copy.deepcopy(self.pipe.tokenizer)  # textual inversion writes to it
        self.heard: list[Any] = []
        if mode is not None:
            room = 1 << 30 if "kept" in mode else None  # without a budget nothing is kept beside another
            self.session, self.device = attached(plan_for(self.pipe, *MODES[mode]), self.pipe, room)

    def call(self, pipe: Any = None, name: str = "", **more: Any) -> None:
        """A call; what it gives is ``heard``."""
        pipe, name = pipe or self.pipe, name or self.cls
        self._on_device(pipe, lambda: self.heard.append(run(pipe, name, **more)))

    def _on_device(self, pipe: Any, work: Callable[[], Any]) -> None:
        if self.planned:
            work()
            return
        pipe.to("sim:0")
        try:
            work()
        finally:
            pipe.to("cpu")

    # -- what people do between calls

    def load_lora(self) -> None:
        self.pipe.load_lora_weights(lora(1), adapter_name="one")

    def load_another(self) -> None:
        self.pipe.load_lora_weights(lora(2), adapter_name="two")
        self.pipe.set_adapters(["one", "two"], [0.7, 0.4])

    def scale(self) -> None:
        self.pipe.set_adapters(["one"], [0.3])

    def load_unet_lora(self) -> None:
        self.pipe.load_lora_weights(lora(1, "unet"), adapter_name="one")

    def hotswap(self) -> None:
        self.pipe.load_lora_weights(lora(len(self.heard) + 3, "unet"), adapter_name="one", hotswap=True)

    def fuse(self) -> None:
        self.pipe.fuse_lora(lora_scale=0.8)

    def unfuse(self) -> None:
        self.pipe.unfuse_lora()

    def disable(self) -> None:
        self.pipe.disable_lora()

    def enable(self) -> None:
        self.pipe.enable_lora()

    def delete(self) -> None:
        self.pipe.delete_adapters("one")

    def unload(self) -> None:
        self.pipe.unload_lora_weights()

    def of_the_component(self) -> None:
        """Past the pipeline: the component's own method."""
        self.pipe.unet.load_lora_adapter(lora(4), prefix="unet", adapter_name="own")
        self.pipe.unet.set_adapters(["own"], [0.5])

    def fuse_of_the_component(self) -> None:
        self.pipe.unet.fuse_lora()

    def textual_inversion(self) -> None:
        vector = noise(5, self.pipe.text_encoder.config.hidden_size)
        self.pipe.load_textual_inversion({"<thing>": vector}, token="<thing>")

    def forget_textual_inversion(self) -> None:
        self.pipe.unload_textual_inversion()

    def ip_adapter(self) -> None:
        self.pipe.load_ip_adapter(
            ip_adapter(self.pipe.unet), subfolder="", weight_name="", image_encoder_folder=None
        )
        self.pipe.set_ip_adapter_scale(0.6)

    def call_with_image(self) -> None:
        self.call(ip_adapter_image_embeds=[noise(9, 2, 1, 16)])

    def forget_ip_adapter(self) -> None:
        self.pipe.unload_ip_adapter()

    def replace(self) -> None:
        self.pipe.unet = other_unet()

    def replace_vae(self) -> None:
        self.pipe.vae = scaled(build(SD).vae, 0.9)

    def swap(self) -> None:
        """Another UNet for a call, and the first one again; it computes alone meanwhile."""
        first, self.pipe.unet = self.pipe.unet, other_unet()
        self.call()
        with torch.no_grad():
            self.heard.append((first(noise(1, 1, 4, 8, 8), 1, noise(2, 1, 7, 32)).sample,))
        self.pipe.unet = first

    def replace_inside(self) -> None:
        self.pipe.unet.conv_out = scaled(build(SD).unet.conv_out, 0.5)

    def by_hand(self) -> None:
        """Weights written past the version counter, as merging scripts do."""
        self.pipe.unet.conv_out.weight.data.mul_(0.5)

    def half(self) -> None:
        self.pipe.to(torch.bfloat16)

    def single(self) -> None:
        self.pipe.to(dtype=torch.float32)

    def half_component(self) -> None:
        self.pipe.unet.to(torch.bfloat16)
        self.pipe.unet.to(torch.float32)

    def fuse_projections(self) -> None:
        self.pipe.fuse_qkv_projections()

    def part_projections(self) -> None:
        self.pipe.unfuse_qkv_projections()

    def load_state(self) -> None:
        weights = {key: 0.99 * value.cpu() for key, value in self.pipe.unet.state_dict().items()}
        self.pipe.unet.load_state_dict(weights)

    def image_to_image(self) -> None:
        """``from_pipe`` as people write it: it casts what is shared to float32."""
        self._image_to_image()

    def image_to_image_as_it_is(self) -> None:
        self._image_to_image(torch_dtype=self.pipe.unet.dtype)

    def _image_to_image(self, **more: Any) -> None:
        from diffusers import StableDiffusionImg2ImgPipeline

        own = copy.deepcopy(self.pipe.scheduler)  # img2img leaves its tables on the device
        other = StableDiffusionImg2ImgPipeline.from_pipe(self.pipe, scheduler=own, **more)
        other.set_progress_bar_config(disable=True)
        self.call(other, "StableDiffusionImg2ImgPipeline")

    def encode(self) -> None:
        """A use outside of a call."""
        place = "sim:0"

        def work() -> None:
            with torch.no_grad():
                self.heard.append((self.pipe.encode_prompt("a dog", place, 1, False)[0].cpu(),))

        self._on_device(self.pipe, work)

    def fail(self) -> None:
        def fails(*_: Any, **__: Any) -> Any:
            raise Stop

        try:
            self.call(callback_on_step_end=fails)
        except Stop:
            self.heard.append((torch.ones(1),))

    def under_inference_mode(self) -> None:
        def work() -> None:
            torch.manual_seed(7)
            with torch.inference_mode():
                made = self.pipe(**arguments(self.cls))[0]
            self.heard.append((made.cpu().clone(),))

        self._on_device(self.pipe, work)

    def from_a_thread(self) -> None:
        thread = threading.Thread(target=self.call)
        thread.start()
        thread.join()

    def deep_copy(self) -> None:
        twin = copy.deepcopy(self.pipe)
        self.heard.append(run(twin, self.cls))  # on the CPU: nobody put it anywhere else

    def save(self) -> None:
        where = self.folder / f"{len(self.heard)}-{self.planned}"
        self.pipe.save_pretrained(where, safe_serialization=True)
        again = type(build(self.cls)).from_pretrained(where)
        again.set_progress_bar_config(disable=True)
        self.heard.append(run(again, self.cls))

    def pickle_weights(self) -> None:
        where = self.folder / f"{len(self.heard)}-{self.planned}.pt"
        torch.save(self.pipe.unet.state_dict(), where)
        self.heard.append(tuple(v for v in torch.load(where).values() if v.numel()))

    def preview(self) -> None:
        """Decodes in the step callback."""

        def decodes(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            self.heard.append((pipe.vae.decode(tensors["latents"].to(pipe.vae.dtype)).sample.cpu(),))
            return tensors

        self.call(callback_on_step_end=decodes)

    def change_in_the_middle(self) -> None:
        """An adapter's scale changes in the step callback, as people fade LoRAs."""

        def fades(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if pipe.get_list_adapters():
                pipe.set_adapters([*pipe.get_active_adapters()], 0.5 / (step + 1))
            return tensors

        self.call(callback_on_step_end=fades)

    # -- the end

    def end(self) -> dict[str, dict[str, torch.Tensor]]:
        """The weights when the plan is gone."""
        if self.planned:
            self.session.remove()
        return {
            name: dict(part.state_dict())
            for name, part in self.pipe.components.items()
            if isinstance(part, torch.nn.Module)
        }


Life = tuple[list[Any], dict[str, dict[str, torch.Tensor]]]


@cache
def plain_life(operations: tuple[str, ...], cls: str = SD) -> Life:
    """What a plain pipeline gives, and what its weights are in the end."""
    with TemporaryDirectory() as folder:
        plain = World(Path(folder), None, cls)
        for operation in operations:
            getattr(plain, operation)()
        return plain.heard, plain.end()


def assert_same_lives(operations: tuple[str, ...], mode: str, folder: Path, cls: str = SD) -> None:
    """Bit for bit the same outputs and weights, whatever is done; nothing left on the device."""
    SimDevice()
    heard, expected = plain_life(operations, cls)
    ours = World(folder, mode, cls)
    for at, operation in enumerate(operations):
        before = len(ours.heard)
        getattr(ours, operation)()
        after = len(ours.heard)
        said = f"{operation}, number {at} of {operations}, gives something else"
        assert all(map(same, ours.heard[before:after], heard[before:after])), said
    assert len(ours.heard) == len(heard)
    left = ours.end()
    assert {n: [*w] for n, w in left.items()} == {n: [*w] for n, w in expected.items()}
    for name, weights in left.items():
        for path, weight in weights.items():
            assert weight.device.type == "cpu", f"{name}.{path}"
            assert same((weight,), (expected[name][path],)), f"{name}.{path}"
    assert ours.device.faults == ()
    assert ours.device.ledger.live == 0


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def lora(seed: int, *names: str) -> dict[str, torch.Tensor]:
    """For the UNet and the text encoder of ``SD``, or for those in ``names``."""
    return dict(_lora(seed, *names))  # loaders empty what they are given


@cache
def _lora(seed: int, *names: str) -> dict[str, torch.Tensor]:
    pipe = build(SD)
    made: dict[str, torch.Tensor] = {}
    targets = {"unet": ["to_q", "to_k", "to_out.0"], "text_encoder": ["q_proj", "v_proj"]}
    for name in names or targets:
        part = getattr(pipe, name)
        part.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=targets[name]))
        for key, value in get_peft_model_state_dict(part).items():
            made[f"{name}.{key}"] = 0.3 * noise(crc32(f"{seed}{name}{key}".encode()), *value.shape)
    return made


def other_unet() -> Any:
    return scaled(build(SD).unet, 0.5)


def scaled(module: Any, factor: float) -> Any:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(factor)
    return module


def ip_adapter(unet: Any) -> dict[str, dict[str, torch.Tensor]]:
    """In the layout of the first IP-Adapters: keys and values for each cross attention, a projection."""
    inner: dict[str, torch.Tensor] = {}
    number = 1
    for name in unet.attn_processors:
        if name.endswith("attn1.processor") or "motion" in name:
            continue
        attention = unet.get_submodule(name.removesuffix(".processor"))
        for key in ("to_k", "to_v"):
            rows, columns = getattr(attention, key).weight.shape
            inner[f"{number}.{key}_ip.weight"] = 0.3 * noise(number, rows, columns)
        number += 2
    width = unet.config.cross_attention_dim
    tokens = 4
    projection = {
        "proj.weight": noise(101, tokens * width, 16),
        "proj.bias": noise(102, tokens * width),
        "norm.weight": torch.ones(width),
        "norm.bias": noise(103, width),
    }
    return {"image_proj": projection, "ip_adapter": inner}
