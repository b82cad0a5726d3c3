"""Pipelines of all families, put together in a process that never made one: the same pictures."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pipelines.all import CASES, build, run

from planner.device import shared
from planner.loading.apart import Inseparable, taken_apart
from planner.loading.segment import share

pytestmark = pytest.mark.skipif(not shared.POSSIBLE, reason="this system has no memfd")

THERE = """
import json, os, sys
import torch
from batches.test_put_together import digest
from planner.batches.sharing import shared_by
from planner.device.shared import opened

torch.set_num_threads(1)
for name, file in json.loads(sys.argv[2]).items():
    if not os.fork():  # what an earlier one made is not there
        try:
            said = digest(shared_by(opened(int(sys.argv[1]), file, name)), name)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        print(json.dumps([name, said]), flush=True)
        os._exit(0)
    os.wait()
"""


def digest(pipe: object, name: str) -> str:
    made = [t.contiguous().flatten().view(torch.uint8).numpy().tobytes() for t in run(pipe, name)]
    return hashlib.sha256(b"".join(made)).hexdigest()


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["StableDiffusionXLPipeline", "FluxPipeline"], id="two"),
        pytest.param([*CASES], id="all", marks=pytest.mark.wide),
    ],
)
def test_where_none_was_made_before(names: list[str]) -> None:
    truth, pages = {}, {}
    for name in names:
        truth[name] = digest(build(name), name)
        try:
            pages[name] = share(taken_apart(build(name)), name)
        except Inseparable:  # each worker loads its own, and says so
            continue
    assert len(pages) > 0.9 * len(names)
    told = json.dumps({name: one.file for name, one in pages.items()})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    ended = subprocess.run(
        [sys.executable, "-c", THERE, str(os.getpid()), told], env=environment, capture_output=True, text=True
    )
    found = dict(json.loads(line) for line in ended.stdout.splitlines() if line.startswith("["))
    assert found == {name: truth[name] for name in pages}, ended.stderr[-2000:]
