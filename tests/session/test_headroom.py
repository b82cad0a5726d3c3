"""What a component is left beside the weights, by what it took before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from planner.session.headroom import SLACK, Headroom


def a_device(**counters: int) -> Any:
    state = SimpleNamespace(**({"held": 0, "refused": 0, "own": 0} | counters))
    state.cap, state.beside, state.refusals = lambda _: True, lambda: state.held, lambda: state.refused
    return state


def ran(headroom: Headroom, device: Any, component: str, took: int) -> None:
    headroom.enter(component, 0)
    device.held = took
    headroom.look(component)


def test_who_has_never_run_is_left_half_of_the_budget() -> None:
    device = a_device(own=600)
    headroom = Headroom(device, 1280)
    assert headroom.lack("vae", 100) == 600 + 100 + 640 - 1280
    ran(headroom, device, "vae", 200)
    assert headroom.lack("vae", 100) == 0
    assert headroom.lack("vae", 500) == 600 + 500 + 200 + 1280 // SLACK - 1280
    assert headroom.lack("unet", 100) == 60


def test_what_others_left_goes_where_it_is_in_the_way_or_would_be_taken_for_ones_own() -> None:
    device = a_device(own=600)
    headroom = Headroom(device, 1280)
    assert headroom.enter("unet", 0)
    device.held = 200
    headroom.look("unet")
    assert not headroom.enter("unet", 0)  # it runs again
    assert headroom.enter("vae", 0)  # nobody knows yet
    device.held = 300
    headroom.look("vae")
    headroom.end()
    headroom.begin()
    assert not headroom.enter("unet", 100)  # 300 lie there, and there is room
    headroom.look("unet")
    headroom.end()
    assert headroom.need("unet") == 200 + 1280 // SLACK
    headroom.begin()
    assert headroom.enter("unet", 500)


def test_nothing_binds_without_a_budget() -> None:
    headroom = Headroom(a_device(own=600), None)
    assert (headroom.lack("unet", 1 << 40), headroom.enter("unet", 0), headroom.grain) == (0, False, 0)
