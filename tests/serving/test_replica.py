"""A replica without Ray: the bytes of ``plan apply``, one call at a time, calls that nobody waits for."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import planner
from planner.cli.main import run
from planner.docs.pages import FOLDER
from planner.serving.answer import Answer
from planner.serving.replica import Replica, Unhealthy

PLAN = """version: 1
pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}
run: {prompt: a cat, num_inference_steps: 2, height: 64, width: 64, output_type: pil}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("served")
    (made / "x.plan.yaml").write_text(PLAN)
    return made


@pytest.fixture(scope="module")
def replica(folder: Path) -> Iterator[Replica]:
    plan = planner.load(str(folder / "x.plan.yaml"), overrides=("idle=keep",))
    made = Replica(plan, "sim:0", torch.get_num_threads())
    yield made
    asyncio.run(made.close())


def test_the_bytes_of_plan_apply(folder: Path, replica: Replica) -> None:
    out = folder / "x.png"
    assert (
        run(["apply", str(folder / "x.plan.yaml"), "--simulate", "--set", "run.seed=7", "--out", str(out)])
        == 0
    )
    made = asyncio.run(replica.call({"seed": 7}))
    assert (made.status, made.type, made.body) == (200, "image/png", out.read_bytes())
    page = (FOLDER / "serving.md").read_text(encoding="utf-8")
    assert all(f"\n{name.lower()}: " in page for name in made.headers)
    assert made.headers["Offload-Plan-Seed"] == "7"
    assert float(made.headers["Offload-Plan-Seconds"]) > 0
    assert int(made.headers["Offload-Plan-Weights-Peak-Bytes"]) > 0
    assert replica.info["device"].startswith("sim:0")
    assert replica.info["weights_peak_bytes"] == int(made.headers["Offload-Plan-Weights-Peak-Bytes"])
    assert replica.info["peak_bytes"] is None  # nobody knows the rates of a device that is simulated
    other = asyncio.run(replica.call({"seed": 8, "prompt": "a dog"}))
    assert other.body != made.body


def test_several_outputs_are_a_zip(replica: Replica) -> None:
    given = {"seed": 7, "num_images_per_prompt": 2}
    made = asyncio.run(replica.call(given))
    assert made.type == "application/zip"
    with zipfile.ZipFile(io.BytesIO(made.body)) as file:
        assert file.namelist() == ["output-0.png", "output-1.png"]
        assert Image.open(io.BytesIO(file.read("output-1.png"))).size == (64, 64)
    assert asyncio.run(replica.call(given)).body == made.body


def test_a_call_that_fails_and_the_next(replica: Replica) -> None:
    before = asyncio.run(replica.call({"seed": 7})).body
    made = asyncio.run(replica.call({"seed": 7, "max_sequence_length": 9999}))
    assert (made.status, made.code) == (500, "P004")
    assert json.loads(made.body)["errors"][0]["code"] == "P004"
    assert asyncio.run(replica.call({"seed": 7})).body == before


def uses(replica: Replica) -> int:
    """Of components, in one call."""
    applied, seen = replica._work.session.applied, []
    observe = lambda what, name: seen.append(what)  # noqa: E731
    applied.observers.append(observe)
    asyncio.run(replica.call({"seed": 7}))
    applied.observers.remove(observe)
    return seen.count("use")


def test_ended_before_each_use_the_next_picture_is_equal(replica: Replica) -> None:
    before = asyncio.run(replica.call({"seed": 7})).body
    number = uses(replica)
    assert number >= 5  # two encoders, two steps, a decoder
    applied = replica._work.session.applied

    async def ended_at(last: int) -> None:
        loop, task, seen = asyncio.get_running_loop(), None, 0

        def observe(what: str, name: str) -> None:
            nonlocal seen
            seen += what == "use"
            if what == "use" and seen == last:
                gone = asyncio.run_coroutine_threadsafe(cancel(), loop)
                gone.result()

        async def cancel() -> None:
            assert task is not None
            task.cancel()
            await asyncio.sleep(0.05)  # it is told, and waits for the thread
            assert not task.done()
            task.cancel()  # again: the call still runs

        applied.observers.append(observe)
        try:
            task = asyncio.ensure_future(replica.call({"seed": 7}))
            with pytest.raises(asyncio.CancelledError):
                await task
        finally:
            applied.observers.remove(observe)
        assert seen == last  # none after it
        assert (await replica.call({"seed": 7})).body == before

    for last in range(1, number + 1):
        asyncio.run(ended_at(last))


def test_a_request_that_is_cancelled_while_it_waits_never_runs(replica: Replica) -> None:
    applied, running, most, calls = replica._work.session.applied, 0, 0, 0
    call = replica._work.call

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal running, most, calls
        running, calls = running + 1, calls + 1
        most = max(most, running)
        try:
            return call(*args, **kwargs)
        finally:
            running -= 1

    async def several() -> None:
        tasks = [asyncio.ensure_future(replica.call({"seed": n})) for n in range(4)]
        await asyncio.sleep(0.02)
        tasks[2].cancel()
        await replica.check()  # a call runs: it is not disturbed
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(done[2], asyncio.CancelledError)
        assert len({made.body for made in done if isinstance(made, Answer)}) == 3

    replica._work.call = counted  # type: ignore[method-assign]
    try:
        asyncio.run(several())
    finally:
        replica._work.call = call  # type: ignore[method-assign]
    assert (most, calls) == (1, 3)
    assert not applied.removed


def test_out_of_memory_is_tried_once_more(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    before = asyncio.run(replica.call({"seed": 7})).body
    pipe, left = replica._work.pipe, [1]
    scheduler = pipe.scheduler.step

    def full(*args: Any, **kwargs: Any) -> Any:
        if left:
            left.pop()
            raise torch.OutOfMemoryError("full")
        return scheduler(*args, **kwargs)

    monkeypatch.setattr(pipe.scheduler, "step", full)
    made = asyncio.run(replica.call({"seed": 7}))
    assert (made.status, made.body, left) == (200, before, [])
    left[:] = [1, 1]
    monkeypatch.setattr(pipe.scheduler, "step", lambda *a, **k: full(*a, **k))
    made = asyncio.run(replica.call({"seed": 7}))
    assert (made.status, made.code) == (500, "P004")


def test_health(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planner.load(str(folder / "x.plan.yaml"), overrides=("idle=keep",))
    replica = Replica(plan, "sim:0", torch.get_num_threads())
    asyncio.run(replica.check())

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with monkeypatch.context() as here:
        here.setattr("planner.serving.replica.torch.zeros", broken)
        with pytest.raises(Unhealthy, match="illegal"):
            asyncio.run(replica.check())
    asyncio.run(replica.check())
    asyncio.run(replica.close())
    for asked in (replica.check, lambda: replica.call({"seed": 7})):
        with pytest.raises(Unhealthy, match="not on the pipeline"):
            asyncio.run(asked())
