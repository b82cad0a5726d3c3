"""Where a fault falls: what can be counted in a run that is whole, and made to fail in another."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch.nn.modules import module as torch_module

from faults.case import ERRORS, Case, InjectedInterrupt
from faults.lines import Line, counting, failing
from planner.virtual.device import SimDevice
from planner.virtual.operations import Fail, Operations

Callback = Callable[..., Any]


class Counts:
    """Of a whole run: how often each site was hit."""

    def __init__(self) -> None:
        self.lines: Counter[Line] = Counter()
        self.hits: Counter[str] = Counter()

    def sites(self) -> dict[str, int]:
        """By site, as a case names it, how often."""
        found = {f"line:{name}:{line}": count for (name, line), count in self.lines.items()}
        for site, count in self.hits.items():
            whens = ("before", "after") if site not in ("callback",) else ("before",)
            found |= {f"{site}:{when}": count for when in whens}
        return found


@contextmanager
def counted(pipe: Any, device: SimDevice) -> Iterator[tuple[Counts, Callback]]:
    """Counts what happens inside; the callback is to be given to the pipeline's call."""
    counts = Counts()
    device.operations = Operations()

    def count(site: str) -> None:
        counts.hits[site] += 1

    with _forwards(count, lambda: None), _steps(pipe, count, lambda: None), counting(counts.lines):
        yield counts, _callback(count)
    counts.hits.update({f"op:{name}": n for name, n in device.operations.counts.items()})
    device.operations = Operations()


class Struck:
    """Whether the fault was raised."""

    def __init__(self) -> None:
        self.raised: list[BaseException] = []

    @property
    def yes(self) -> bool:
        return bool(self.raised)


@contextmanager
def struck(case: Case, pipe: Any, device: SimDevice) -> Iterator[tuple[Struck, Callback]]:
    """What ``case`` says fails inside."""
    what, _, rest = case.site.partition(":")
    found = Struck()

    def interrupt() -> BaseException:
        found.raised.append(InjectedInterrupt("on top"))
        return found.raised[-1]

    later = failing(None, case.again, interrupt)

    def error() -> BaseException:
        found.raised.append(ERRORS[case.error]("injected"))
        if case.again:
            later.start_here()
        return found.raised[-1]

    with ExitStack() as stack:
        callback = _callback(lambda _: None)
        if what == "op":
            op, _, when = rest.partition(":")
            made: Literal["before", "after"] = "after" if when == "after" else "before"
            device.operations = Operations([Fail(op=op, nth=case.nth, error=error, when=made)])
        elif what == "line":
            name, _, line = rest.rpartition(":")
            stack.enter_context(failing((name, int(line)), case.nth, error))
        else:
            left = [case.nth]

            def count(site: str) -> None:
                left[0] -= 1
                if not left[0]:
                    raise error()

            either = (count, lambda: None) if rest == "before" else (lambda _: None, lambda: count(what))
            if what == "forward":
                stack.enter_context(_forwards(*either))
            elif what == "step":
                stack.enter_context(_steps(pipe, *either))
            else:
                callback = _callback(count)
        try:
            yield found, callback
        finally:
            later.__exit__()
            device.operations = Operations()


@contextmanager
def _forwards(before: Callable[[str], None], after: Callable[[], None]) -> Iterator[None]:
    """Of every module that is called."""

    def hook(module: torch.nn.Module, args: Any) -> None:
        before("forward")

    def hook_after(module: torch.nn.Module, args: Any, output: Any) -> None:
        after()

    handles = (
        torch_module.register_module_forward_pre_hook(hook),
        torch_module.register_module_forward_hook(hook_after),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _steps(pipe: Any, before: Callable[[str], None], after: Callable[[], None]) -> Iterator[None]:
    """Of the scheduler."""
    scheduler = pipe.scheduler
    step = scheduler.step

    @functools.wraps(step)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        before("step")
        made = step(*args, **kwargs)
        after()
        return made

    scheduler.__dict__["step"] = wrapped
    try:
        yield
    finally:
        del scheduler.__dict__["step"]


def _callback(before: Callable[[str], None]) -> Callback:
    def callback(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        before("callback")
        return tensors

    return callback
