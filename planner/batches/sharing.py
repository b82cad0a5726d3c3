"""One copy of the weights for the workers of a machine.

The first worker prepares the pipeline and lays it out in shared memory; the others map that. Who is first is
told by a lock that ends with its process. ``OUT/.batch/shared`` has the lock of each machine, a file for each
process that has the memory open, under which the next one opens it, or why there is none. What is announced
is whole and cannot change any more; a process that dies before has announced nothing, and the next one begins
anew. The memory is gone with the last process that has it. It is called by the batch's token: another plan is
another batch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers import ModelMixin
from transformers import PreTrainedModel

from planner.device.pinned import check_shared
from planner.device.shared import NotShared, Shared, opened
from planner.diagnostics.diagnostic import PlanError
from planner.forms.quantized import quantized
from planner.host.unread import unread_bytes
from planner.loading.apart import Inseparable, taken_apart
from planner.loading.builtin import quiet
from planner.loading.direct import load_in
from planner.loading.failure import explain
from planner.loading.pipeline import load_pipeline
from planner.loading.segment import from_shared, share
from planner.plan.model import Plan
from planner.session.checks import modules_of
from planner.session.ram import short_of_memory
from planner.tracing.modules import uninitialised


class Meeting(Protocol):
    """Where the processes of one machine meet, a batch's folder: ``shared`` is one on the disk, ``token`` its
    name for the memory."""

    @property
    def shared(self) -> Path:
        """Of those alone that share."""

    @property
    def token(self) -> str:
        """Another one for another plan."""


def shared_pipeline(plan: Plan, device: torch.device, folder: Meeting) -> tuple[Any, str | None]:
    """The plan's pipeline, as ``load_pipeline`` makes it, with rules done that a session would do, its
    parameters in memory that the workers of this machine share; or with a copy of its own, and why.

    Raises PlanError where it cannot be loaded, OSError for the folder.
    """
    try:
        check_shared(device)
        pages = _pages(plan, device, folder)
    except NotShared as error:
        return load_pipeline(plan, device_type=device.type), str(error)
    if not isinstance(pages, Shared):
        return pages
    try:
        return shared_by(pages), None
    except Exception as error:  # whatever a library's class does, in this process alone
        return load_pipeline(plan, device_type=device.type), f"it cannot be put together: {error}"


def shared_by(pages: Shared) -> Any:
    """The pipeline that another process laid out. Raises whatever its classes do."""
    with quiet():  # importing a pipeline says which image library it falls back to
        pipe = from_shared(pages)
        for module in modules_of(pipe).values():
            _make_one_like(module)
    return pipe


def _make_one_like(module: Any) -> None:
    """Without weights, for what its class keeps for the process when one is made: which hidden states it can
    return (transformers). ``module`` was made in another process, and put together here."""
    with uninitialised():
        if isinstance(module, ModelMixin):
            type(module).from_config(module.config)
        elif isinstance(module, PreTrainedModel):
            type(module)(module.config)


def _pages(plan: Plan, device: torch.device, folder: Meeting) -> Shared | tuple[Any, str]:
    """The memory with the pipeline in it; where this process found that there can be none, the pipeline, and
    why. Raises NotShared where another one did."""
    from filelock import FileLock

    here = folder.shared / _machine()
    refused = here.with_suffix(".none")
    with FileLock(here.with_suffix(".lock")):
        if refused.exists():
            raise NotShared(refused.read_text(encoding="utf-8"))
        try:
            pages = next(_announced(here, folder.token), None)
        except OSError as error:
            said = f"what another process shares cannot be opened: {error.strerror}"
            refused.write_text(said, encoding="utf-8")
            raise NotShared(said) from error
        if pages is None:
            pipe = load_pipeline(plan, device_type=device.type, read=False)
            with quantized(plan, pipe, device, keep=False):
                pass
            if problems := [*short_of_memory(plan, unread_bytes(modules_of(pipe)))]:
                raise PlanError(problems, plan.document.sources)
            try:
                pages = share(taken_apart(pipe), folder.token)
            except (Inseparable, NotShared) as error:
                refused.write_text(str(error), encoding="utf-8")
                load_in(plan, pipe)
                return pipe, str(error)
            except OSError as error:
                raise PlanError([explain(error, plan, None)], plan.document.sources) from error
        said = json.dumps({"pid": os.getpid(), "file": pages.file})
        here.with_suffix(f".{os.getpid()}").write_text(said, encoding="utf-8")
    return pages


def _machine() -> str:
    """A name for the processes that see each other under ``/proc``."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}-{os.stat('/proc/self/ns/pid').st_ino}"


def _announced(here: Path, token: str) -> Iterator[Shared]:
    """What living processes of this machine have. Raises OSError where it may not be opened."""
    for path in sorted(here.parent.glob(f"{here.name}.*[0-9]")):
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            yield opened(int(said["pid"]), int(said["file"]), token)
        except (FileNotFoundError, ValueError, KeyError):
            path.unlink(missing_ok=True)  # it ended, or half of it was written
