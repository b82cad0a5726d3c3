"""Shared weights on a CUDA device: registered by each process that maps them, and the pictures the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cards import ON_CUDA

import planner
from planner.batches.disk import held
from planner.device.pinned import check_shared

pytestmark = ON_CUDA

PLAN = """version: 1
pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux', dtype: bfloat16}
run: {prompt: a cat, num_inference_steps: 2, height: 64, width: 64, seed: 3}
"""
OPENS = """
import hashlib, sys, torch, planner
from pathlib import Path
from planner.api import attach, device_for
from planner.batches.disk import Folder
from planner.batches.sharing import shared_pipeline
from planner.loading.call import call
from planner.loading.inputs import call_of
from planner.loading.pipeline import load_pipeline
from planner.loading.segment import own_bytes

plan, device = planner.load("x.plan.yaml"), torch.device("cuda:0")
if sys.argv[1] == "alone":
    pipe, why = load_pipeline(plan), None
else:
    pipe, why = shared_pipeline(plan, device, Folder(Path("out").absolute(), sys.argv[1]))
session, _ = attach(plan, pipe, device_for(device), loaded_by_us=True)
image = call(session, plan, pipe, call_of(plan, pipe).arguments).result.images[0]
pins = session.applied.state.residency.pins
digest = hashlib.sha256(image.tobytes()).hexdigest()
print(why, pins.nbytes > 0, pins.refused, sum(own_bytes(pipe).values()), digest)
sys.stdout.flush()
sys.stdin.read()  # the others have it too, as long as this one does
"""


def test_several_processes_register_one_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.plan.yaml").write_text(PLAN)
    check_shared(torch.device("cuda:0"))
    with held(tmp_path / "out") as folder:
        kinds = ["alone", *[folder.token] * 3]
        environment = os.environ | {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
        team = [
            subprocess.Popen(
                [sys.executable, "-c", OPENS, kind],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for kind in kinds
        ]
        said = [one.stdout.readline().split() for one in team if one.stdout is not None]
        for one in team:
            one.communicate("")
    alone, *others = said
    size = sum(info.bytes or 0 for info in planner.compile("x.plan.yaml").target.components.values())
    assert int(alone[3]) > 0.9 * size
    for why, registered, refused, own, digest in others:
        assert (why, registered, refused) == ("None", "True", "0")
        assert int(own) < 0.1 * size
        assert digest == alone[4]


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one worker a device")
def test_workers_on_two_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.plan.yaml").write_text(PLAN)
    Path("r.jsonl").write_text("".join(f'{{"id": "r{n}"}}\n' for n in range(6)))
    told: list[str] = []
    made = planner.batch("x.plan.yaml", "r.jsonl", "two", workers=2, tell=told.append)
    assert (made.done, made.failed) == (6, 0)
    assert not any("P982" in line for line in told)
    assert planner.batch("x.plan.yaml", "r.jsonl", "one", workers=1).done == 6
    for n in range(6):
        assert Path(f"two/r{n}.png").read_bytes() == Path(f"one/r{n}.png").read_bytes()
