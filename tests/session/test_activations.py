"""What a component is left beside the weights, by what it took before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from planner.schedule.estimate import SLACK, ActivationEstimate
from planner.session.signature import signature


def a_device(**counters: int) -> Any:
    state = SimpleNamespace(**({"held": 0, "refused": 0, "retried": 0, "own": 0, "abandoned": 0} | counters))
    state.cap, state.allocator_reserved, state.oom_count = (
        lambda _: True,
        lambda: state.held,
        lambda: state.refused,
    )
    state.retry_count = lambda: state.retried
    return state


def ran(headroom: ActivationEstimate, device: Any, component: str, took: int) -> None:
    headroom.enter(component, "", 0)
    device.held = took
    headroom.observe(component, "")


def test_who_has_never_run_is_left_half_of_the_budget() -> None:
    device = a_device(own=600)
    headroom = ActivationEstimate(device, 1280)
    assert headroom.shortfall("vae", "", 100) == 600 + 100 + 640 - 1280
    ran(headroom, device, "vae", 200)
    assert headroom.shortfall("vae", "", 100) == 0
    assert headroom.shortfall("vae", "", 500) == 600 + 500 + 200 + 1280 // SLACK - 1280
    assert headroom.shortfall("unet", "", 100) == 60


def test_what_others_left_goes_where_it_is_in_the_way_or_would_be_taken_for_ones_own() -> None:
    device = a_device(own=600)
    headroom = ActivationEstimate(device, 1280)
    assert headroom.enter("unet", "", 0)
    device.held = 200
    headroom.observe("unet", "")
    assert not headroom.enter("unet", "", 0)  # it runs again
    assert headroom.enter("vae", "", 0)  # nobody knows yet
    device.held = 300
    headroom.observe("vae", "")
    headroom.end()
    headroom.begin()
    assert not headroom.enter("unet", "", 100)  # 300 lie there, and there is room
    headroom.observe("unet", "")
    headroom.end()
    assert headroom.need("unet") == 200 + 1280 // SLACK
    headroom.begin()
    assert headroom.enter("unet", "", 500)


def test_who_never_ran_through_this_entry_point_is_left_half_too_and_more_of_what_is_spared() -> None:
    device = a_device(own=600)
    headroom = ActivationEstimate(device, 1280)
    headroom.begin()
    headroom.enter("vae", "encode", 0)
    device.held = 50
    headroom.observe("vae", "encode")
    assert headroom.shortfall("vae", "encode", 100) == 0
    assert headroom.shortfall("vae", "decode", 100) == 600 + 100 + 640 - 1280
    assert headroom.shortfall("vae", "decode", 100, spared=True) == 600 + 100 + 960 - 1280
    assert headroom.enter("unet", "", 0)
    assert headroom.enter("vae", "decode", 0)
    device.held = 90
    headroom.observe("vae", "decode")
    headroom.end()
    assert headroom.need("vae") == 90 + 1280 // SLACK
    assert headroom.shortfall("vae", "another", 500, spared=True) == 0  # it is of all of them, from now on


def test_what_the_pipeline_itself_takes_is_the_last_components() -> None:
    """Up to the next one, or the end of the call."""
    device = a_device(own=600)
    headroom = ActivationEstimate(device, 1280)
    headroom.begin()
    ran(headroom, device, "text_encoder", 100)
    device.held = 150  # embeddings twice, for guidance
    headroom.enter("vae", "", 0)
    device.held = 200
    headroom.observe("vae", "")
    device.held = 300  # frames as floats
    headroom.end()
    assert headroom.need("text_encoder") == 150 + 1280 // SLACK
    assert headroom.need("vae") == 300 + 1280 // SLACK


def test_who_runs_among_what_others_left_takes_at_least_what_is_more_after_it() -> None:
    device = a_device()
    headroom = ActivationEstimate(device, 1280)
    headroom.begin()
    ran(headroom, device, "vae", 100)
    headroom.end()
    headroom.begin()
    assert not headroom.enter("vae", "", 0)
    device.held = 150
    headroom.observe("vae", "")
    assert headroom.need("vae") == 100 + 1280 // SLACK  # 50 more, and it took 100 before
    device.held = 250
    headroom.end()
    assert headroom.need("vae") == 150 + 1280 // SLACK


def test_who_filled_what_there_was_and_gave_some_back_is_left_as_much() -> None:
    device = a_device(own=600)
    headroom = ActivationEstimate(device, 1280)
    for retried in (2, 3):
        headroom.begin()
        headroom.enter("vae", "", 0)
        device.retried = retried
        device.held = 400
        headroom.observe("vae", "")
        headroom.end()
        assert headroom.need("vae") == 680 + 1280 // SLACK
        device.own = 0
    headroom.begin()
    ran(headroom, device, "unet", 100)
    headroom.end()
    assert headroom.need("unet") == 100 + 1280 // SLACK


def test_nothing_binds_without_a_budget() -> None:
    headroom = ActivationEstimate(a_device(own=600), None)
    assert (headroom.shortfall("unet", "", 1 << 40), headroom.enter("unet", "", 0), headroom.grain) == (
        0,
        False,
        0,
    )


def test_what_it_may_come_to_hold_is_known_for_uses_like_the_last_calls() -> None:
    device = a_device(own=600)
    headroom = ActivationEstimate(device, 1280)
    assert headroom.reserve("vae", "64 x 64") is None
    ran(headroom, device, "vae", 200)
    assert headroom.reserve("vae", "64 x 64") is None  # the call goes on
    headroom.end()
    headroom.begin()
    assert headroom.reserve("vae", "64 x 64") == 200 + 200 + 1280 // SLACK
    headroom.end()
    headroom.begin()
    assert headroom.reserve("vae", "128 x 128") is None
    ran(headroom, device, "vae", 300)
    headroom.end()
    headroom.begin()
    assert (
        headroom.reserve("vae", "128 x 128") == 200 + 300 + 1280 // SLACK
    )  # there was room: 100 are others'


def test_uses_are_alike_by_shapes_dtypes_values_and_the_settings_of_the_module() -> None:
    module: Any = torch.nn.Linear(2, 2)
    x = torch.zeros(1, 2)

    def of(*args: Any, entry: str = "decode", **kwargs: Any) -> object:
        return signature(module, entry, (args, kwargs))

    first = of(x, deep=[{"y": x}], scale=0.5)
    assert first == of(torch.ones(1, 2), deep=[{"y": x}], scale=0.5)
    others = [
        of(x.double(), deep=[{"y": x}], scale=0.5),
        of(x, deep=[{"y": torch.zeros(2, 2)}], scale=0.5),
        of(x, deep=[{"y": x}], scale=1.0),
        of(x, deep=[{"y": x}], scale=0.5, entry="encode"),
    ]
    module.use_tiling = True
    others.append(of(x, deep=[{"y": x}], scale=0.5))
    assert first not in others
    hash(first)
