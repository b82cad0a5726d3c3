"""Replicas of one machine with one copy of the weights."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

import planner
from planner.device import shared
from planner.loading.segment import own_bytes
from planner.serving.weights import Weights

PLAN = """version: 1
pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}
run: {prompt: a cat, num_inference_steps: 1, height: 64, width: 64}
"""
CALLS = """
import asyncio, hashlib, sys, torch, planner
from planner.serving.replica import Replica
replica = Replica(planner.load("x.plan.yaml", overrides=("idle=keep",)), "sim:0", 1, sys.argv[1])
if sys.argv[2] == "writes":
    def writes(*given, **named):
        with torch.no_grad():
            replica._work.pipe.vae.decoder.conv_norm_out.weight.mul_(1.0)
    replica._work.call = writes
print(hashlib.sha256(asyncio.run(replica.call({"seed": 7})).body).hexdigest(), flush=True)
sys.stdin.read()
"""
pytestmark = pytest.mark.skipif(not shared.POSSIBLE, reason="this system has no memfd")
CPU = torch.device("cpu")


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    Path("x.plan.yaml").write_text(PLAN)
    return secrets.token_hex(8)


def shares(weights: Weights) -> bool:
    pipe = weights.pipeline(planner.load("x.plan.yaml"), CPU)
    buffers = sum(b.nbytes for m in pipe.components.values() if hasattr(m, "buffers") for b in m.buffers())
    return sum(own_bytes(pipe).values()) == buffers


def test_who_shares(token: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert not shares(Weights(None))
    assert shares(Weights(token))
    assert capsys.readouterr().err == ""
    folder = Path(f"offload-plan-{token}")
    assert folder.stat().st_mode & 0o077 == 0
    (folder / "faults/one").write_bytes(b"Fatal Python error: Segmentation fault")
    assert not shares(Weights(token))
    assert "ended with a fault" in capsys.readouterr().err
    other = secrets.token_hex(8)
    Path(f"offload-plan-{other}").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert not shares(Weights(other))
    assert "[P982 weights-copied]" in capsys.readouterr().err
    monkeypatch.setattr(shared, "POSSIBLE", False)
    assert not shares(Weights(token))


@pytest.mark.wide
def test_two_replicas_and_one_that_writes(token: str, tmp_path: Path) -> None:
    def started(how: str) -> subprocess.Popen[str]:
        env = {**os.environ, "TMPDIR": str(tmp_path)}
        command = [sys.executable, "-c", CALLS, token, how]
        piped = subprocess.PIPE
        return subprocess.Popen(command, env=env, text=True, stdin=piped, stdout=piped, stderr=piped)

    first, second = started("calls"), started("calls")
    assert first.stdout is not None
    assert second.stdout is not None
    digests = {first.stdout.readline(), second.stdout.readline()}
    assert len(digests) == 1
    assert len(digests.pop()) == 65
    writes = started("writes")
    writes.communicate()
    assert writes.returncode == -signal.SIGSEGV
    again = started("calls")
    _, said = again.communicate()
    assert "one ended with a fault" in said
    for one in (first, second):
        _, said = one.communicate()
        assert "P982" not in said
