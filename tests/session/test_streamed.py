"""Streaming on the hostile device: every block there when it runs, any order, nothing left behind."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pipelines.all import arguments, build, run, same
from pipelines.plans import attached, plan_for

from planner.device.pinned import Pins
from planner.graph.ring import Ring
from planner.graph.split import Split, split
from planner.graph.stepping import Stepper
from planner.host.layout import HostWeights
from planner.session.verdict import judge
from planner.streaming.device_weights import DeviceWeights
from planner.target.blocks import blocks_of
from planner.virtual.audit import audit, snapshot
from planner.virtual.device import SimDevice


class Blocks(torch.nn.Module):
    """Runs its blocks in the order that it is told."""

    def __init__(self, count: int = 12) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enter = torch.nn.Linear(8, 16)
        self.blocks = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.GELU(), torch.nn.Linear(32, 16))
            for _ in range(count)
        )
        self.leave = torch.nn.Linear(16, 8)
        self.order = list(range(count))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x)
        for i in self.order:
            x = x + self.blocks[i](x)
        return self.leave(x)


ORDERS = {
    "as made": [*range(12)],
    "backwards": [*range(11, -1, -1)],
    "the middle first": [5, 6, 7, 0, 1, 2, 3, 4, 8, 9, 10, 11],
    "some left out": [0, 3, 4, 9],
    "one twice": [0, 1, 1, 2, 0, 5, 11],
    "some again and again": [0, 1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 2, 9, 10, 11, 0],
    "some in rounds": [*range(5, 12)] * 3,
}


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    """What autograd saves refers to weights, and is kept beside the blocks that come and go."""
    with torch.no_grad():
        yield


def placed_on(*given: Any, **more: Any) -> DeviceWeights:
    """On the device, its first copies queued."""
    made = DeviceWeights(*given, **more)
    made.begin()
    return made


@pytest.mark.parametrize("prefetch", [1, 2, 4])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("order", ORDERS)
def test_any_order_gives_right_results(order: str, share: float, prefetch: int) -> None:
    module, x = Blocks(), torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    module.order = ORDERS[order]
    device = SimDevice()
    expected = copy.deepcopy(module).to("sim:0")(x.to("sim:0")).cpu()
    known = blocks_of(module)
    made = split(known, int(share * known.bytes), prefetch)
    assert made.buffer
    streamed = placed_on(HostWeights(module, Pins(device.name)), device, "m", made, lambda _: None)
    assert device.ledger.live == made.held
    for _ in range(3):
        streamed.start_forward("")
        assert torch.equal(module(x.to("sim:0")).cpu(), expected)
        streamed.settle()
    streamed.release()
    assert device.faults == ()
    assert device.ledger.live == 0
    assert torch.equal(module(x), copy.deepcopy(module)(x))
    assert not any(m._forward_pre_hooks for m in module.modules())


def test_in_steady_state_each_forward_brings_what_comes_and_no_more() -> None:
    module, x = Blocks(), torch.zeros(1, 8)
    device = SimDevice()
    made = split(blocks_of(module), blocks_of(module).bytes // 2)
    moved: list[int] = []
    streamed = placed_on(HostWeights(module, Pins(device.name)), device, "m", made, moved.append)
    for _ in range(3):
        streamed.start_forward("")
        module(x.to("sim:0"))
    before = sum(moved)
    streamed.start_forward("")
    module(x.to("sim:0"))
    assert sum(moved) - before == made.crossing
    streamed.release()


@pytest.mark.parametrize("prefetch", [1, 2, 4])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("order", ORDERS)
def test_each_block_is_on_its_way_before_its_turn_once_the_order_is_known(
    order: str, share: float, prefetch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is on the device since before its first forward, and where it runs again after others:
    but where the one that ran just before lies in its place."""
    module, x = Blocks(), torch.zeros(1, 8)
    module.order = ORDERS[order]
    device, turns = SimDevice(), list[bool]()
    turn = Stepper.turn

    def seen(self: Stepper, index: int, *, wrap: bool = True) -> bool:
        before, ring = self.current, self.ring
        late = turn(self, index, wrap=wrap)
        turns.append(late and not (before in ring.places and overlap(ring, before, index)))
        return late

    monkeypatch.setattr(Stepper, "turn", seen)
    known = blocks_of(module)
    made = split(known, int(share * known.bytes), prefetch)
    streamed = placed_on(HostWeights(module, Pins(device.name)), device, "m", made, lambda _: None)
    for forward in range(4):
        streamed.start_forward("")
        if forward >= 2:
            turns.clear()
        module(x.to("sim:0"))
        assert forward < 2 or turns
        assert forward < 2 or not any(turns)
    streamed.release()
    assert device.faults == ()


def overlap(ring: Ring, one: int | None, other: int) -> bool:
    """Whether two blocks' places do."""
    again = Ring({}, 0)
    again._spans = ring._spans
    again.become([other])
    return one is not None and again.meets(one, [other])


@pytest.mark.parametrize("order", ORDERS)
def test_what_others_keep_of_the_ring_stays_as_it_was_when_it_is_laid_out_anew(order: str) -> None:
    module, x = Blocks(), torch.zeros(1, 8)
    module.order = ORDERS[order]
    device = SimDevice()
    streamed = placed_on(
        HostWeights(module, Pins(device.name)), device, "m", split(blocks_of(module), 0, 2), lambda _: None
    )
    held: list[tuple[torch.Tensor, torch.Tensor]] = []

    def keep(part: Any, args: Any) -> None:
        held.append((part.weight.detach(), part.weight.detach().clone()))

    last: Any = module.blocks[module.order[-1]]  # in the ring when a forward ends
    hook = last[0].register_forward_pre_hook(keep)
    for _ in range(3):
        streamed.start_forward("")
        module(x.to("sim:0"))
    hook.remove()
    streamed.release()
    assert all(torch.equal(now, before) for now, before in held)
    assert device.faults == ()


@pytest.mark.parametrize("gave", [0.0, 0.3])
@pytest.mark.parametrize("share", [0.6, 1.0])
@pytest.mark.parametrize("order", ORDERS)
def test_more_of_it_stays_than_at_first(order: str, share: float, gave: float) -> None:
    module, x = Blocks(), torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    module.order = ORDERS[order]
    device, moved = SimDevice(lasting=True), list[int]()
    expected = copy.deepcopy(module).to("sim:0")(x.to("sim:0")).cpu()
    known = blocks_of(module)
    first = split(known, int(0.4 * known.bytes))
    master = HostWeights(module, Pins(device.name))
    placed = placed_on(master, device, "m", first, moved.append, grain=known.bytes // 8)

    def runs() -> None:
        for _ in range(3):
            placed.start_forward("")
            assert torch.equal(module(x.to("sim:0")).cpu(), expected)
            placed.settle()

    runs()
    placed.shed(int(gave * known.bytes))
    gone = first.held - placed.nbytes
    second = split(known, int(share * known.bytes), anyway=placed.stays)
    assert placed.grows(second if second.buffer else None)
    moved.clear()
    placed.grow(second if second.buffer else None)
    placed.complete()
    placed.settle()
    assert not placed.grows(first)
    assert device.ledger.live == placed.nbytes == placed.full == second.held
    assert sum(moved) <= second.resident - first.resident + gone + second.buffer
    runs()
    placed.release()
    assert device.faults == ()
    assert device.ledger.live == 0


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("order", ORDERS)
def test_what_gave_way_in_part_comes_back(order: str, share: float) -> None:
    module, x = Blocks(), torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    module.order = ORDERS[order]
    device = SimDevice(lasting=True)
    expected = copy.deepcopy(module).to("sim:0")(x.to("sim:0")).cpu()
    known = blocks_of(module)
    made = split(known, int(share * known.bytes))
    master = HostWeights(module, Pins(device.name))
    placed = placed_on(
        master, device, "m", made if made.buffer else None, lambda _: None, grain=known.bytes // 8
    )
    for wanted in (0, 1, known.bytes // 3, known.bytes):
        for _ in range(3):
            placed.start_forward("")
            assert torch.equal(module(x.to("sim:0")).cpu(), expected)
            placed.settle()
        before = device.ledger.live
        placed.shed(wanted)
        assert placed.partial or not (made.buffer or wanted)
        given = before - device.ledger.live
        assert given >= min(wanted, before - known.bytes // 4)
        assert given <= wanted + made.buffer + known.bytes // 4
        if placed.partial:
            placed.complete()
        assert device.ledger.live == before
    placed.release()
    assert device.faults == ()
    assert device.ledger.live == 0
    assert not any(m._forward_pre_hooks for m in module.modules())


def test_a_block_that_runs_once_more_than_was_known_does_not_bring_what_has_run() -> None:
    module, device = Blocks(), SimDevice()
    module.order = [0, 1, 2, 3, 4, 0, 5, 6, 7, 0, 8, 9, 10, 11]
    moved: list[int] = []
    made = split(blocks_of(module), blocks_of(module).bytes // 2, anyway=(0,))
    streamed = placed_on(HostWeights(module, Pins(device.name)), device, "m", made, moved.append)
    forwards = []
    for _ in range(3):
        streamed.start_forward("")
        module(torch.zeros(1, 8, device="sim:0"))
        streamed.settle()
        forwards.append(sum(moved))
    streamed.release()
    ahead = made.buffer  # for the forward that follows
    assert forwards[0] <= made.resident + made.crossing + ahead
    assert forwards[2] - forwards[1] == made.crossing


def in_two_lives(module: Blocks, made: Split) -> list[int]:
    """Bytes that crossed for three forwards, and again after it left."""
    device = SimDevice()
    master = HostWeights(module, Pins(device.name))
    lives = []
    for _ in range(2):
        moved: list[int] = []
        streamed = placed_on(master, device, "m", made, moved.append)
        for _ in range(3):
            streamed.start_forward("")
            module(torch.zeros(1, 8, device="sim:0"))
        streamed.release()
        lives.append(sum(moved))
    assert device.faults == ()
    return lives


def test_after_the_last_forward_nothing_is_brought_for_another() -> None:
    module = Blocks()
    made = split(blocks_of(module), blocks_of(module).bytes // 2)
    first, second = in_two_lives(module, made)
    assert second == made.resident + 3 * made.crossing < first


def test_the_order_is_learned() -> None:
    module = Blocks()
    module.order = ORDERS["the middle first"]
    first, second = in_two_lives(module, split(blocks_of(module), 0))
    assert second < first


def test_few_modules_are_watched_once_the_order_is_known_and_another_order_is_still_right() -> None:
    module, x = Blocks(), torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    device = SimDevice()
    expected = {}
    for name, order in ORDERS.items():
        module.order = order
        expected[name] = copy.deepcopy(module).to("sim:0")(x.to("sim:0")).cpu()
    made = split(blocks_of(module), int(0.8 * blocks_of(module).bytes), 1)
    placed = placed_on(HostWeights(module, Pins(device.name)), device, "m", made, lambda _: None)
    for name in ["as made"] * 4 + ["backwards", "as made", "one twice", "some left out", *["as made"] * 4]:
        module.order = ORDERS[name]
        placed.start_forward("")
        assert torch.equal(module(x.to("sim:0")).cpu(), expected[name])
        placed.settle()
    watched = sum(bool(m._forward_pre_hooks) for m in module.modules())
    # A block that comes, the one after it and the first; of each itself and what its list holds.
    assert 0 < watched <= 4 * (2 * made.stay.count(False) + 1) < 4 * len(module.blocks)
    placed.release()
    assert device.faults == ()


@pytest.mark.parametrize("again", [0, 3, 7])
def test_few_modules_are_watched_where_a_block_runs_twice_in_each_forward(again: int) -> None:
    """As the projections around a transformer's blocks do in SDXL: what was overwritten since comes once
    more, each time. A block that comes is watched, and what follows each of its turns."""
    module, x = Blocks(), torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    module.order = [*range(8), again, *range(8, 12)]
    device = SimDevice()
    expected = copy.deepcopy(module).to("sim:0")(x.to("sim:0")).cpu()
    for share in (0.8, 0.9):
        made = split(blocks_of(module), int(share * blocks_of(module).bytes), 1)
        placed = placed_on(HostWeights(module, Pins(device.name)), device, "m", made, lambda _: None)
        watched = []
        for _ in range(8):
            placed.start_forward("")
            assert torch.equal(module(x.to("sim:0")).cpu(), expected)
            placed.settle()
            watched.append(sum(bool(m._forward_pre_hooks) for m in module.modules()))
        turns = sum(module.order.count(n) for n, stays in enumerate(made.stay) if not stays)
        assert watched[-1] == watched[-2] <= 4 * (made.stay.count(False) + turns + 1) < watched[0]
        placed.release()
    assert device.faults == ()


class Hidden(torch.nn.Module):
    """A block that is called, not a list: nobody is expected to call what is in it."""

    def __init__(self, inside: Any) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inside(x)


def test_who_reaches_into_a_container_is_heard() -> None:
    module, x = Blocks(40), torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    device = SimDevice()
    expected = copy.deepcopy(module).to("sim:0")(x.to("sim:0")).cpu()
    master = HostWeights(module, Pins(device.name))
    made = split(master.sizes, master.nbytes // 2, 1)
    placed = placed_on(master, device, "m", made, lambda _: None)
    for _ in range(4):
        placed.start_forward("")
        assert torch.equal(module(x.to("sim:0")).cpu(), expected)
    placed.start_forward("")
    reached = module.enter(x.to("sim:0"))
    for block in module.blocks:
        assert isinstance(block, torch.nn.Sequential)
        reached = reached + block[2](block[1](block[0](reached)))
    assert torch.equal(module.leave(reached).cpu(), expected)
    placed.release()
    assert device.faults == ()


def test_who_reaches_into_a_block_past_its_entry_fails_or_is_heard() -> None:
    module, x = Blocks(40), torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    module.blocks = torch.nn.ModuleList(Hidden(block) for block in module.blocks)
    device = SimDevice()
    expected = copy.deepcopy(module).to("sim:0")(x.to("sim:0")).cpu()

    def inside() -> torch.Tensor:
        made = module.enter(x.to("sim:0"))
        for block in module.blocks:
            assert isinstance(block, Hidden)
            made = made + block.inside[2](block.inside[1](block.inside[0](made)))
        return module.leave(made).cpu()

    master = HostWeights(module, Pins(device.name))
    made = split(master.sizes, master.nbytes // 2, 1)
    for first, then in ((lambda: module(x.to("sim:0")).cpu(), inside), (inside, inside)):
        master.paths.clear()
        placed = placed_on(master, device, "m", made, lambda _: None)
        for _ in range(4):
            placed.start_forward("")
            assert torch.equal(first(), expected)
        if first is not then:
            with pytest.raises(RuntimeError, match="device"):
                then()
            placed.hook_every_module()
        assert torch.equal(then(), expected)
        placed.release()
    assert device.faults == ()


CLASSES = ("FluxPipeline", "StableDiffusionXLPipeline", "WanPipeline", "StableDiffusion3Pipeline")


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("share", ["0B", "40%"])
def test_every_component_streamed_gives_the_same_picture(cls: str, share: str) -> None:
    whole = build(cls)
    SimDevice()
    expected = run(whole.to("sim:0"), cls)
    pipe = build(cls)
    names = [n for n, c in pipe.components.items() if isinstance(c, torch.nn.Module)]
    resident = "" if share == "0B" else f", resident: {share}"
    lines = ", ".join(f"{n}: {{policy: stream{resident}, prefetch: 1}}" for n in names)
    plan = plan_for(pipe, f"components: {{{lines}}}")
    truth = snapshot(pipe)
    session, device = attached(plan, pipe)
    with audit(pipe, device, before=truth) as seen:
        made = run(pipe, cls)
    assert same(made, expected)
    assert [str(d) for d in judge(session, seen) if d.severity.value == "error"] == []
    session.remove()
    assert device.ledger.live == 0
    assert same(run(pipe, cls), run(build(cls), cls))


def test_an_exception_in_the_middle_releases_everything() -> None:
    cls = "FluxPipeline"
    pipe = build(cls)
    session, device = attached(plan_for(pipe, "components: {transformer: stream}"), pipe)

    def fail(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pipe(**{**arguments(cls), "callback_on_step_end": fail})
    assert device.ledger.live == 0
    assert device.faults == ()
    run(pipe, cls)
    session.remove()
