"""A scope is not bound to a thread, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import copy
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from pipelines.all import arguments, build, run, same

from laws.policies import SD, nothing_left, on_sim
from planner.diagnostics.diagnostic import PlanError
from planner.session import device_state
from planner.virtual.backend import install

MODES = ("offload", "stream", "kept", "resident")
PATIENT = 30.0
"""Seconds after which a thread hangs."""


def in_thread(work: Callable[[], Any]) -> Any:
    """What ``work`` gives in a thread of its own. Fails where it hangs."""
    with_one = ThreadPoolExecutor(1)
    try:
        return with_one.submit(work).result(timeout=PATIENT)
    finally:
        with_one.shutdown(wait=False)


def encoded(pipe: Any) -> torch.Tensor:
    with torch.no_grad():
        made: torch.Tensor = pipe.text_encoder(torch.zeros(1, 4, dtype=torch.long))[0].cpu()
        return made


def steps(pipe: Any, session: Any, count: int = 3) -> Iterator[torch.Tensor]:
    with session.call():
        for _ in range(count):
            yield encoded(pipe)


@pytest.mark.parametrize("mode", MODES)
def test_a_generator_that_a_pool_drives(mode: str) -> None:
    expected = encoded(build(SD))
    pipe, session, device = on_sim(mode)
    scope = steps(pipe, session)
    for _ in range(3):
        assert torch.allclose(in_thread(lambda: next(scope)), expected, atol=1e-5)
    assert in_thread(lambda: next(scope, None)) is None
    assert not session.applied.state.scopes
    assert same(run(pipe, SD), run(pipe, SD))
    nothing_left(pipe, session, device)


@pytest.mark.parametrize("mode", MODES)
def test_a_generator_that_is_dropped(mode: str) -> None:
    pipe, session, device = on_sim(mode)
    scopes = [steps(pipe, session)]
    in_thread(lambda: next(scopes[0]))
    scopes.clear()
    gc.collect()
    run(pipe, SD)
    assert not session.applied.state.scopes
    nothing_left(pipe, session, device)


def test_a_scope_that_is_closed_by_another_thread() -> None:
    pipe, session, device = on_sim("offload")
    scope = session.call()
    in_thread(scope.__enter__)
    in_thread(lambda: encoded(pipe))
    scope.__exit__(None, None, None)
    assert device.ledger.live == 0
    nothing_left(pipe, session, device)


def test_a_scope_whose_token_is_dropped_ends_with_the_next_use() -> None:
    pipe, session, device = on_sim("offload")
    scope = session.call()
    scope.__enter__()
    encoded(pipe)
    assert device.ledger.live > 0
    del scope
    gc.collect()
    encoded(pipe)
    assert device.ledger.live == 0
    nothing_left(pipe, session, device)


@pytest.mark.parametrize("mode", ["offload", "stream"])
def test_asyncio_with_executors(mode: str) -> None:
    pipe, session, device = on_sim(mode)
    expected = run(pipe, SD)

    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(3) as pool:
            calls = [loop.run_in_executor(pool, lambda: picture(pipe)) for _ in range(3)]
            return await asyncio.wait_for(asyncio.gather(*calls), PATIENT)

    torch.manual_seed(7)
    assert [same(made, expected) for made in asyncio.run(main())] == [True] * 3
    nothing_left(pipe, session, device)


def picture(pipe: Any) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        return run(pipe, SD)


@pytest.mark.parametrize("mode", ["offload", "stream", "kept"])
def test_a_component_is_used_in_threads_while_another_calls(mode: str) -> None:
    install()
    ids = [torch.randint(0, 90, (1, 77), generator=torch.Generator().manual_seed(i)) for i in range(4)]
    embeds = torch.randn(2, 1, 77, 32, generator=torch.Generator().manual_seed(9)).to("sim:0")

    def one(pipe: Any, number: int) -> torch.Tensor:
        with torch.no_grad():
            if number:
                return torch.stack([pipe.text_encoder(ids[number].to("sim:0"))[0].cpu() for _ in range(4)])
            given = {"prompt": None, "prompt_embeds": embeds[0], "negative_prompt_embeds": embeds[1]}
            return pipe(**(arguments(SD) | given))[0].cpu()

    whole = build(SD).to("sim:0")
    expected = [one(whole, number) for number in range(4)]
    pipe, session, device = on_sim(mode)
    for _ in range(4):
        with ThreadPoolExecutor(4) as pool:
            made = [pool.submit(one, pipe, number) for number in range(4)]
            for got, want in zip(made, expected, strict=True):
                assert torch.equal(got.result(timeout=PATIENT), want)
    nothing_left(pipe, session, device)


@pytest.mark.parametrize("mode", ["offload", "streamed, kept"])
def test_shallow_copies_for_each_request(mode: str) -> None:
    pipe, session, device = on_sim(mode)
    expected = run(pipe, SD)
    for _ in range(2):
        mine = copy.copy(pipe)
        mine.scheduler = copy.deepcopy(pipe.scheduler)
        assert same(run(mine, SD), expected)
    assert same(run(pipe, SD), expected)
    nothing_left(pipe, session, device)


def test_a_callback_that_waits_for_another_threads_call_gets_a_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_state, "PATIENCE", 0.3)
    pipe, session, device = on_sim("offload")
    expected = run(pipe, SD)
    heard: list[Any] = []

    def callback(pipe: Any, step: int, t: Any, more: Any) -> dict[str, Any]:
        def work() -> None:
            try:
                run(pipe, SD)
            except PlanError as error:
                heard.append(error.diagnostics[0].code.id)

        if step == 0:
            other = threading.Thread(target=work)
            other.start()
            other.join(PATIENT)
            assert not other.is_alive()
        return {}

    assert same(run(pipe, SD, callback_on_step_end=callback), expected)
    assert heard == ["P733"]
    assert same(run(pipe, SD), expected)
    nothing_left(pipe, session, device)


@pytest.mark.parametrize("mode", ["offload", "stream", "resident"])
def test_remove_in_a_callback_is_done_after_the_call(mode: str) -> None:
    install()
    expected = run(build(SD).to("sim:0"), SD)
    pipe, session, device = on_sim(mode)

    def callback(pipe: Any, step: int, t: Any, more: Any) -> dict[str, Any]:
        session.remove()
        return {}

    assert same(run(pipe, SD, callback_on_step_end=callback), expected)
    assert "_offload_plan_session" not in pipe.__dict__
    nothing_left(pipe, session, device)


def test_remove_from_another_thread_waits_for_the_call() -> None:
    pipe, session, device = on_sim("offload")
    expected = run(pipe, SD)
    others: list[threading.Thread] = []

    def callback(pipe: Any, step: int, t: Any, more: Any) -> dict[str, Any]:
        if step == 0:
            others.append(threading.Thread(target=session.remove))
            others[0].start()
        return {}

    assert same(run(pipe, SD, callback_on_step_end=callback), expected)
    others[0].join(PATIENT)
    assert not others[0].is_alive()
    assert session.applied.removed
    nothing_left(pipe, session, device)
