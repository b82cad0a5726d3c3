"""Whatever people do to a pipeline under a plan, in any order: as if they had done it to a plain one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from covering import covering

from reliability.world import MODES, assert_same_lives

LIVES: dict[str, str] = {
    "a LoRA": "call load_lora call scale call disable call enable call unload call",
    "two LoRAs": "load_lora load_another call call delete call unload call",
    "a hot swap": "load_unet_lora call hotswap call hotswap unload call",
    "a fused LoRA": "call load_lora fuse call unfuse call unload call",
    "fused and unloaded": "load_lora call fuse call unload call",
    "a LoRA of the component": "call of_the_component call fuse_of_the_component call",
    "textual inversion": "call textual_inversion call encode call",
    "an IP-Adapter": "call ip_adapter call_with_image load_lora call_with_image forget_ip_adapter call",
    "projections": "call fuse_projections call part_projections call",
    "replaced": "call replace call load_lora call replace_vae call unload call",
    "swapped": "call swap call load_lora swap call swap call",
    "another dtype": "call half call single call half_component call",
    "from_pipe": "call image_to_image call load_lora image_to_image call unload image_to_image",
    "from_pipe as it is": "half call image_to_image_as_it_is call image_to_image call",
    "a use alone": "encode call encode load_lora encode call",
    "a failure": "fail call load_lora fail call unload fail call",
    "inference mode": "under_inference_mode call load_lora under_inference_mode fuse under_inference_mode",
    "a thread": "from_a_thread call load_lora from_a_thread call",
    "copies": "deep_copy call deep_copy load_lora call",
    "saving": "save call save pickle_weights load_lora call pickle_weights",
    "loading a state": "call load_state call load_state",
    "previews": "preview call load_lora preview call",
    "in the middle": "load_lora change_in_the_middle call change_in_the_middle",
}


# What a life does to the pipeline is the same in each mode.
@pytest.mark.parametrize(("life", "mode"), covering([*LIVES], [*MODES], one_in=2))
def test_any_order_gives_what_a_plain_pipeline_gives(life: str, mode: str, tmp_path: Path) -> None:
    assert_same_lives(tuple(LIVES[life].split()), mode, tmp_path)


@pytest.mark.parametrize("mode", ["offload", "stream"])
def test_textual_inversion_is_taken_back(mode: str, tmp_path: Path) -> None:
    assert_same_lives(
        ("call", "textual_inversion", "call", "forget_textual_inversion", "call"), mode, tmp_path
    )


@pytest.mark.parametrize("mode", ["offload", "offload, kept", "stream"])
def test_a_module_inside_of_a_component_is_replaced(mode: str, tmp_path: Path) -> None:
    assert_same_lives(("call", "replace_inside", "call"), mode, tmp_path)


PAST_THE_COUNTER = pytest.mark.xfail(
    strict=True,
    reason="what is written through .data to a weight on the device does not change its version counter: "
    "Binding._undo() takes the host's for the truth",
)


@pytest.mark.parametrize(
    "mode",
    [
        "offload",
        "stream",
        pytest.param("offload, kept", marks=PAST_THE_COUNTER),
        pytest.param("resident", marks=PAST_THE_COUNTER),
    ],
)
def test_weights_are_written_by_hand(mode: str, tmp_path: Path) -> None:
    assert_same_lives(("call", "by_hand", "call", "encode", "call"), mode, tmp_path)


ALWAYS = ("encode", "fail", "preview", "under_inference_mode", "deep_copy", "image_to_image", "from_a_thread")
PLAIN = ("load_lora", "replace_vae", "half_component", "load_state", "fuse_projections part_projections")
LOADED = ("scale", "fuse", "disable", "enable", "change_in_the_middle", "unload", "load_another call unload")


def at_random(seed: int) -> tuple[str, ...]:
    """Operations that may follow each other, and calls between them."""
    choose, state, life = random.Random(seed), "plain", []
    for _ in range(7):
        possible = {"plain": PLAIN, "loaded": LOADED, "fused": ("unfuse",)}[state]
        chosen = choose.choice((*ALWAYS, *possible, *possible))
        after = {"load_lora": "loaded", "fuse": "fused", "unfuse": "loaded", "unload": "plain"}
        state = after.get(chosen.split()[-1], state)
        life += [*chosen.split(), *choose.choice(((), ("call",)))]
    return (*life, "call")


@pytest.mark.parametrize(
    "seed", [s if s in (1, 2) else pytest.param(s, marks=pytest.mark.wide) for s in range(24)]
)
def test_what_is_done_at_random_gives_what_a_plain_pipeline_gives(seed: int, tmp_path: Path) -> None:
    assert_same_lives(at_random(seed), [*MODES][seed % len(MODES)], tmp_path)
