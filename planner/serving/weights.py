"""One copy of the weights for the replicas of a machine, as for the workers of a batch.

They meet in a folder of the system's temporary one, which is called by the application's token and is their
user's alone. A replica whose process ended with a fault while a call ran may have written to weights that
nobody may write: those that start after it have a copy of their own.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from planner.batches.faults import faulted, faults_to
from planner.batches.sharing import shared_pipeline
from planner.device import shared
from planner.diagnostics.diagnostic import finding
from planner.diagnostics.table.p9_batch import WEIGHTS_COPIED
from planner.loading.pipeline import load_pipeline
from planner.plan.model import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """``shared``: who has the weights (``planner.batches.sharing``); ``faults``: a file for each call that
    ended its process."""

    token: str
    shared: Path
    faults: Path


class Weights:
    """Of one replica. ``token``: of the application, whose replicas share; None: none does."""

    def __init__(self, token: str | None) -> None:
        """Nothing is loaded."""
        self._token = token
        self._room: Room | None = None

    def pipeline(self, plan: Plan, device: torch.device) -> Any:
        """The plan's pipeline, its weights shared where that can be; else with a note why not (P982). Raises
        PlanError."""
        pipe, why = None, None
        if self._token is not None:
            pipe, why = self._shared(self._token, plan, device)
        if why is not None:
            print(finding(WEIGHTS_COPIED, f"a replica has a copy of all weights: {why}"), file=sys.stderr)
        return pipe if pipe is not None else load_pipeline(plan, device_type=device.type)

    def call(self) -> AbstractContextManager[None]:
        """Around each call: what ends the process there is seen by the next one."""
        return nullcontext() if self._room is None else _watched(self._room)

    def _shared(self, token: str, plan: Plan, device: torch.device) -> tuple[Any, str | None]:
        if not shared.POSSIBLE:
            return None, "this system has no memfd (Linux has)"
        try:
            room = _room(token)
            if any(map(faulted, room.faults.iterdir())):
                return None, "one ended with a fault in a call, as writing to weights that are shared does"
            pipe, why = shared_pipeline(plan, device, room)
        except OSError as error:
            return None, f"the temporary folder cannot be used: {error.strerror or error}"
        if why is None:
            self._room = room
        return pipe, why


def _room(token: str) -> Room:
    where = Path(tempfile.gettempdir()) / f"offload-plan-{token}"
    where.mkdir(mode=0o700, exist_ok=True)
    if where.is_symlink() or where.stat().st_uid != os.getuid():
        raise PermissionError(1, "it is another user's")
    room = Room(token=token, shared=where / "shared", faults=where / "faults")
    for folder in (room.shared, room.faults):
        folder.mkdir(exist_ok=True)
    return room


@contextmanager
def _watched(room: Room) -> Iterator[None]:
    with faults_to(room.faults / secrets.token_hex(8)):
        yield
