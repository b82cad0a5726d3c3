"""One pipeline on one device, asked by coroutines: one call at a time, ended where nobody waits for it."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import torch

from planner.api import device_for
from planner.batches.foresee import foretold
from planner.batches.work import Work
from planner.diagnostics.diagnostic import PlanError
from planner.plan.model import Plan
from planner.plan.run import with_run
from planner.serving.answer import Answer, answer, refusal
from planner.serving.weights import Weights
from planner.session.machine import card_on, describe_device

_T = TypeVar("_T")


class Unhealthy(Exception):
    """No call can run here any more."""


class Replica:
    """All that touches the device is done by one thread of its own, so that the event loop goes on."""

    def __init__(self, plan: Plan, device: str, threads: int, token: str | None = None) -> None:
        """Loads the pipeline of ``plan`` for ``device``, of torch, and applies the plan. ``threads``: that
        torch computes with; ``token``: replicas that have the same share their weights. Raises PlanError."""
        self.plan = plan
        self._weights = Weights(token)
        self._thread = ThreadPoolExecutor(1, "offload-plan")
        self._turn = asyncio.Lock()
        self._work, self.info = self._thread.submit(_prepared, plan, device, threads, self._weights).result()
        """``info``: the device, and what the plan's own call is predicted to have on it, in bytes: of weights
        and, where the card's rates are known, all that its driver shows."""

    async def call(self, given: Mapping[str, Any]) -> Answer:
        """The answer to a request with these arguments of ``run``, which are checked and have a seed; of a
        call that failed, one with its finding. A request that is cancelled while it waits does not run; one
        that runs ends before the next use of a component, and the device is free when this raises
        CancelledError. Raises Unhealthy where the plan is off the pipeline."""
        plan = with_run(self.plan, {**self.plan.run, **given})
        async with self._turn:
            self._under_plan()
            stop = threading.Event()
            running = asyncio.wrap_future(self._thread.submit(self._answered, plan, stop))
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                stop.set()
                while not running.done():  # this may be cancelled again, and the device is still in use
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait([running])
                running.exception()  # asyncio tells of those that nobody asked for
                raise

    async def check(self) -> None:
        """Raises Unhealthy where the plan is off the pipeline or the device does not compute. While a call
        runs, that call is what tells."""
        self._under_plan()
        if not self._turn.locked():
            await self._in_thread(self._probe)

    async def close(self) -> None:
        """The pipeline is as it was loaded; no call runs afterwards."""
        async with self._turn:
            await self._in_thread(self._work.remove)

    def _under_plan(self) -> None:
        if self._work.session.applied.removed:
            raise Unhealthy("the plan is not on the pipeline any more")

    async def _in_thread(self, function: Callable[[], _T]) -> _T:
        return await asyncio.wrap_future(self._thread.submit(function))

    def _answered(self, plan: Plan, stop: threading.Event) -> Answer:
        try:
            with self._weights.call():
                outcome = self._work.call(plan, "a request", inline=True, stops=stop.is_set)
            assert outcome.measured is not None
            return answer(outcome.result, plan, self._work.pipe, outcome.measured)
        except PlanError as error:
            print(error, file=sys.stderr)
            return refusal(500, error.diagnostics)

    def _probe(self) -> None:
        try:
            torch.zeros(1, device=self._work.session.device.name).cpu()
        except torch.OutOfMemoryError:  # a device that is full computes
            return
        except RuntimeError as error:
            raise Unhealthy(f"the device does not compute: {error}") from error


def _prepared(plan: Plan, device: str, threads: int, weights: Weights) -> tuple[Work, dict[str, Any]]:
    if device.startswith("sim"):
        from planner.virtual import backend

        backend.install()  # torch does not know the name before
    torch.set_num_threads(threads)
    there = device_for(torch.device(device))
    told = foretold(plan, card_on(there.name)) if there.name.type == "cuda" else None
    work = Work(plan, weights.pipeline(plan, there.name), there, told)
    found, forecast = describe_device(there.name), work.compiled.forecast
    return work, {
        "device": " ".join(filter(None, (found.name, found.kind))),
        "weights_peak_bytes": work.compiled.schedule.peak,
        "peak_bytes": None if forecast is None else forecast.peak,
    }
