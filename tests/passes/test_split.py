"""What of a streamed component stays, and who streams at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from models import MIB, plan, target
from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel, T5Config, T5EncoderModel

from planner.device.pinned import Pins
from planner.graph.build import build_graph
from planner.graph.split import fitted, split
from planner.host.layout import HostWeights
from planner.passes.residency import residency
from planner.plan.model import Idle, Policy
from planner.schedule.lower import lower
from planner.schedule.verify import verify
from planner.target.blocks import blocks_of
from planner.target.model import Blocks, Target
from planner.target.tree import tree_of

blocks = st.builds(
    Blocks,
    fixed=st.integers(0, 1000),
    streamable=st.lists(st.integers(1, 500), max_size=40).map(tuple),
)


@settings(max_examples=300)
@given(blocks, st.integers(0, 30_000), st.integers(0, 4))
def test_a_split_adds_up(known: Blocks, resident: int, prefetch: int) -> None:
    made = split(known, resident, prefetch)
    stays = sum(s for s, keep in zip(known.streamable, made.stay, strict=True) if keep)
    assert made.resident == known.fixed + stays
    assert made.resident <= max(resident, known.fixed)
    assert made.crossing == sum(known.streamable) - stays
    assert made.buffer <= (prefetch + 1) * max(known.streamable, default=0)
    assert (made.buffer == 0) == all(made.stay)
    if resident >= known.bytes:
        assert made.held == known.bytes
        assert made.crossing == 0


@settings(max_examples=300)
@given(blocks, st.integers(0, 30_000), st.sets(st.integers(0, 39)))
def test_what_stays_anyway_stays(known: Blocks, room: int, anyway: set[int]) -> None:
    made = fitted(known, room, anyway=anyway)
    if made is not None:
        assert made.held <= room
        assert all(keep for n, keep in enumerate(made.stay) if n in anyway)


@settings(max_examples=300)
@given(blocks, st.integers(0, 30_000))
def test_a_fitted_split_fits(known: Blocks, room: int) -> None:
    made = fitted(known, room)
    if made is not None:
        assert made.held <= room
    else:
        assert known.bytes > room


def test_what_stays_is_spread_evenly() -> None:
    made = split(Blocks(fixed=0, streamable=(10,) * 12), 60)
    runs = "".join("#" if keep else "." for keep in made.stay)
    assert runs.count("#") == 6
    assert "..." not in runs
    assert "###" not in runs


def known(whole: int, count: int) -> Target:
    """A target whose unet has ``count`` blocks of ``whole / count`` MiB."""
    made = target({"text_encoder": 10, "unet": whole, "vae": 20})
    size = whole // count * MIB
    unet = replace(made.components["unet"], blocks=Blocks(fixed=0, streamable=(size,) * count))
    return replace(made, components={**made.components, "unet": unet})


def test_a_component_that_does_not_fit_streams_and_the_plan_is_told() -> None:
    graph, _ = build_graph(plan("text_encoder -> unet -> vae", vram=60), known(100, 20))
    assert graph is not None
    graph, found = residency(graph)
    assert [d.code.name for d in found] == ["component-streams"]
    placement = graph.placements["unet"]
    assert placement.policy is Policy.STREAM
    assert placement.split is not None
    assert placement.split.held <= 60 * MIB * 0.85
    schedule, _ = lower(graph)
    assert schedule is not None
    assert verify(schedule, graph) == ()
    assert schedule.peak == placement.split.held


def test_a_policy_of_the_plan_is_not_overridden() -> None:
    made = plan("text_encoder -> unet -> vae", vram=60, policies={"unet": Policy.OFFLOAD})
    graph, _ = build_graph(made, known(100, 20))
    assert graph is not None
    same, found = residency(graph)
    assert same.placements["unet"] == graph.placements["unet"]
    assert found == []
    schedule, problems = lower(graph)
    assert schedule is None
    assert [d.code.name for d in problems if d.severity.value == "error"] == ["component-too-large"]


def test_what_fits_does_not_stream() -> None:
    graph, _ = build_graph(plan("text_encoder -> unet -> vae", vram=120), known(100, 20))
    assert graph is not None
    assert not any(p.streams for p in residency(graph)[0].placements.values())


def test_what_leaves_nothing_for_activations_streams() -> None:
    graph, _ = build_graph(plan("text_encoder -> unet -> vae", vram=110), known(100, 20))
    assert graph is not None
    graph, _ = residency(graph)
    placement = graph.placements["unet"]
    assert placement.split is not None
    assert placement.split.held <= 110 * MIB * 0.85
    assert placement.room == 110 * MIB


def test_kept_between_calls_nothing_is_evicted_and_the_loop_keeps_the_most() -> None:
    made = replace(plan("text_encoder -> unet -> vae", vram=100), idle=Idle.KEEP)
    whole = known(80, 20)
    encoder = replace(
        whole.components["text_encoder"],
        bytes=40 * MIB,
        blocks=Blocks(fixed=0, streamable=(2 * MIB,) * 20),
    )
    graph, _ = build_graph(made, replace(whole, components={**whole.components, "text_encoder": encoder}))
    assert graph is not None
    graph, found = residency(graph)
    assert {d.code.name for d in found} == {"component-streams"}
    splits = {name: p.split for name, p in graph.placements.items()}
    assert splits["text_encoder"] is not None
    assert splits["text_encoder"].resident == 0
    assert splits["unet"] is not None
    assert splits["unet"].resident >= 40 * MIB
    assert sum(graph.held(name) or 0 for name in graph.placements) <= 85 * MIB
    schedule, _ = lower(graph)
    assert schedule is not None
    assert verify(schedule, graph) == ()
    assert not any(step.do == "evict" for step in schedule.steps)


def test_diffusers_semantics_never_stream() -> None:
    made = plan("text_encoder -> unet -> vae", vram=60, semantics="diffusers")
    graph, _ = build_graph(made, known(100, 20))
    assert graph is not None
    assert residency(graph)[0].placements["unet"] == graph.placements["unet"]


class Deep(torch.nn.Module):
    """Blocks in a list, a head that is tied, a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(16, 32)
        self.blocks = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.ReLU(), torch.nn.Linear(64, 32))
            for _ in range(30)
        )
        self.blocks.get_submodule("7.0").register_buffer("count", torch.zeros(3))
        self.head = torch.nn.Linear(32, 16, bias=False)
        self.head.weight = self.embed.weight


def test_the_compiler_counts_as_the_session_lays_out() -> None:
    module = Deep()
    counted = blocks_of(module)
    assert len(counted.streamable) == 30
    master = HostWeights(module, Pins(torch.device("cpu")))
    assert master.sizes == counted
    assert master.nbytes == counted.bytes
    assert blocks_of(module) == counted  # packed now


def test_names_in_a_file_make_the_same_blocks() -> None:
    module = Deep()
    tree = tree_of((name, tensor.nbytes) for name, tensor in module.named_parameters())
    assert blocks_of(tree).streamable == blocks_of(module).streamable


def few_layers() -> dict[str, Callable[[], torch.nn.Module]]:
    """Of true width, and so few layers that each is a large part of the whole."""
    widths = (128, 256, 512, 512)
    return {
        "a VAE": lambda: AutoencoderKL(
            block_out_channels=widths,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        ),
        "a UNet": lambda: UNet2DConditionModel(cross_attention_dim=768),
        "T5": lambda: T5EncoderModel(
            T5Config(d_model=1024, d_ff=2816, num_layers=6, vocab_size=1000, feed_forward_proj="gated-gelu")
        ),
        "Llama": lambda: LlamaModel(
            LlamaConfig(hidden_size=512, intermediate_size=2048, num_hidden_layers=6, vocab_size=500)
        ),
        "CLIP": lambda: CLIPTextModel(CLIPTextConfig(num_hidden_layers=6, vocab_size=500)),
    }


@pytest.mark.parametrize("name", few_layers())
def test_nearly_all_of_a_component_may_leave(name: str) -> None:
    with torch.device("meta"):
        counted = blocks_of(few_layers()[name]())
    assert counted.fixed < 0.05 * counted.bytes
    assert max(counted.streamable) < 0.25 * counted.bytes
