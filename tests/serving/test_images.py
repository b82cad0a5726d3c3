"""Images in requests, through a replica without Ray."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import torch
from PIL import Image

import planner
from planner.cli.main import run
from planner.serving.replica import Replica

PLAN = """version: 1
pipeline: {class: FluxImg2ImgPipeline, source: 'builtin:tiny-flux'}
run: {prompt: a cat, strength: 0.7, num_inference_steps: 2, height: 64, width: 64}
"""


def test_an_image_in_the_request_is_the_file_of_plan_apply(tmp_path: Path) -> None:
    (tmp_path / "x.plan.yaml").write_text(PLAN)
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(tmp_path / "in.png")
    out = tmp_path / "x.png"
    said = ["--set", "run.seed=7", "--set", "run.image=in.png", "--out", str(out)]
    assert run(["apply", str(tmp_path / "x.plan.yaml"), "--simulate", *said]) == 0
    replica = Replica(planner.load(str(tmp_path / "x.plan.yaml")), "sim:0", torch.get_num_threads())
    sent = "data:image/png;base64," + base64.b64encode((tmp_path / "in.png").read_bytes()).decode()
    made = asyncio.run(replica.call({"seed": 7, "image": sent}))
    assert (made.status, made.body) == (200, out.read_bytes())
    asyncio.run(replica.close())
