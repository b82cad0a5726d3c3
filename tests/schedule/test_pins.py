"""In which order host memory is pinned: by how often it crosses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from models import plan, target
from registering import Runtime

import planner
from planner.device.pinned import Pins
from planner.graph.build import build_graph
from planner.plan.model import Policy
from planner.schedule.lower import lower
from planner.schedule.pins import pinned

SIZES = {"text_encoder": 10, "text_encoder_2": 40, "unet": 100, "vae": 20, "extra": 30}
FLUX = "version: 1\npipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}\n"


def order(text: str, **options: object) -> tuple[str, ...]:
    graph, _ = build_graph(plan(text, **options), target(SIZES))  # type: ignore[arg-type]
    assert graph is not None
    schedule, _ = lower(graph)
    assert schedule is not None
    return schedule.pins


def test_what_is_loaded_twice_comes_before_what_is_larger() -> None:
    walk = "vae.encode -> text_encoder -> text_encoder_2 -> unet -> vae.decode"
    assert order(walk) == ("vae", "unet", "text_encoder_2", "text_encoder", "extra")
    assert order(walk, vram=1000) == ("unet", "text_encoder_2", "vae", "text_encoder", "extra")


def test_what_never_leaves_is_last() -> None:
    walk = "text_encoder -> unet -> vae"
    made = order(walk, exclude=["text_encoder_2"], policies={"unet": Policy.RESIDENT})
    assert made == ("vae", "text_encoder", "extra", "unet", "text_encoder_2")


@pytest.mark.parametrize("policy", ["stream", "{policy: stream, resident: 50%}"])
def test_what_streams_in_a_loop_is_first(tmp_path: Path, policy: str) -> None:
    path = tmp_path / "x.plan.yaml"
    path.write_text(
        f"{FLUX}order: vae.encode -> text_encoder -> text_encoder_2 -> transformer -> vae.decode\n"
        f"components: {{transformer: {policy}, text_encoder_2: stream}}\n"
    )
    assert planner.compile(path).schedule.pins == ("transformer", "vae", "text_encoder_2", "text_encoder")


def test_what_streams_and_never_comes_and_goes_is_as_any_other(tmp_path: Path) -> None:
    path = tmp_path / "x.plan.yaml"
    path.write_text(f"{FLUX}components: {{transformer: {{policy: stream, resident: 100%}}}}\n")
    compiled = planner.compile(path)
    assert compiled.schedule.pins[0] == "transformer"
    sizes = {name: info.bytes for name, info in compiled.target.components.items() if info.module}
    assert compiled.schedule.host.items() <= sizes.items()


@pytest.mark.parametrize("limit", [0, 100, 700, 1300, 2000, 2700, 9000])
def test_as_much_is_told_as_a_session_registers(limit: int) -> None:
    """Where a component lies in one range: piece by piece, those that are too large for what is left passed
    over."""
    sizes = {"denoiser": 1900 << 20, "encoder": 600 << 20, "vae": 160 << 20}
    pins = Pins(torch.device("cpu"), limit << 20)
    pins._runtime = runtime = Runtime()
    told = pinned(sizes, sizes, limit << 20)
    for number, (name, size) in enumerate(sizes.items(), 1):
        at = number << 40
        pins.add([(at, size)])
        here = [(start - at, end - at) for start, end in runtime.spans() if start >> 40 == number]
        assert [*told[name]] == here
