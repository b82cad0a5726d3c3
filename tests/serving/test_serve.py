"""Real Ray Serve on this machine: what goes over HTTP, whoever goes away, and what Prometheus is told."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

PLAN = """version: 1
pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}
run: {prompt: a cat, num_inference_steps: 3, height: 64, width: 64}
"""
SERVER = """
import sys
import ray
from ray import serve
port, metrics = map(int, sys.argv[1:])
ray.init("local", num_cpus=4, include_dashboard=False, object_store_memory=256 << 20, log_to_driver=False,
         _node_ip_address="127.0.0.1", _metrics_export_port=metrics, configure_logging=False)
serve.start(http_options={"host": "127.0.0.1", "port": port})
from planner.serve import app
from planner.serving import deployment
class Removable(deployment.Pipeline):
    async def take_off(self):
        self.replica._work.remove()
deployment.Pipeline = Removable
given = {"plan": "x.plan.yaml", "simulate": "true", "max_queued_requests": "2"}
serve.run(app(given))
print("ready", flush=True)
for _ in sys.stdin:
    serve.get_deployment_handle("Pipeline", "default").take_off.remote().result()
serve.shutdown()
ray.shutdown()
"""
JSON = {"Content-Type": "application/json"}


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


class Server:
    """The process of ``SERVER``, and what it started."""

    def __init__(self, folder: Path, short: str) -> None:
        self.port, self.metrics = free_port(), free_port()
        env = {**os.environ, "HOME": short, "RAY_TMPDIR": short, "RAY_USAGE_STATS_ENABLED": "0"}
        env["RAY_metrics_report_interval_ms"] = "500"
        command = [sys.executable, "-c", SERVER, str(self.port), str(self.metrics)]
        self.process = subprocess.Popen(
            command, cwd=folder, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ready(self) -> None:
        assert self.process.stdout is not None
        assert any(line == "ready\n" for line in self.process.stdout)

    def close(self) -> None:
        started = psutil.Process(self.process.pid).children(recursive=True)
        try:
            self.process.communicate(timeout=60)
        finally:
            for one in [*started, self.process]:
                if one.is_running() if isinstance(one, psutil.Process) else one.poll() is None:
                    one.kill()

    def start(self, values: Any, method: str = "POST") -> http.client.HTTPConnection:
        """A request whose answer nobody reads yet."""
        made = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        made.request(method, "/", values if isinstance(values, str) else json.dumps(values), JSON)
        return made

    def post(self, values: Any, method: str = "POST") -> tuple[int, bytes, dict[str, str]]:
        made = self.start(values, method)
        answer = made.getresponse()
        body = answer.read()
        made.close()
        return answer.status, body, {name.lower(): value for name, value in answer.getheaders()}

    def codes(self, values: Any) -> tuple[int, list[str]]:
        status, body, _ = self.post(values)
        return status, [one["code"] for one in json.loads(body)["errors"]]

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return bytes(answer.read())

    def figures(self) -> dict[str, float]:
        """What Ray's Prometheus endpoint says of us and of the queue, over all labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        found: dict[str, float] = {}
        for name, value in re.findall(r"^ray_((?:offload_plan_)?serve_\w+)\{.*\} (\S+)$", text, re.M):
            found[name] = found.get(name, 0) + float(value)
        return found

    def replica(self) -> psutil.Process:
        children = psutil.Process(self.process.pid).children(recursive=True)
        (found,) = [one for one in children if "ServeReplica:default:Pipeline" in " ".join(one.cmdline())]
        return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("ray.serve")
    folder = tmp_path_factory.mktemp("serve")
    (folder / "x.plan.yaml").write_text(PLAN)
    command = [sys.executable, "-m", "planner", "apply", "x.plan.yaml", "--simulate"]
    for seed in (7, 8):
        named = [f"--set=run.seed={seed}", "--out", f"{seed}.png"]
        subprocess.run([*command, *named], cwd=folder, check=True, capture_output=True)
    short = tempfile.mkdtemp(dir="/tmp")  # a socket's path has 107 characters
    made = Server(folder, short)
    try:
        made.ready()
        yield made
    finally:
        made.close()
        shutil.rmtree(short, ignore_errors=True)


@pytest.fixture
def applied(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], bytes]:
    (folder,) = tmp_path_factory.getbasetemp().glob("serve0")
    return lambda seed: (folder / f"{seed}.png").read_bytes()


def until(seen: Callable[[], bool], seconds: float = 60) -> None:
    for _ in range(int(seconds * 4)):
        if seen():
            return
        time.sleep(0.25)
    raise AssertionError("it never came")


@pytest.mark.wide
def test_pictures_are_those_of_plan_apply(server: Server, applied: Callable[[int], bytes]) -> None:
    for seed in (7, 8, 7):
        status, body, headers = server.post({"seed": seed})
        assert (status, headers["content-type"]) == (200, "image/png")
        assert (body, headers["offload-plan-seed"]) == (applied(seed), str(seed))
    assert server.post({})[2]["offload-plan-seed"] != server.post({})[2]["offload-plan-seed"]
    assert server.post({"num_images_per_prompt": 2})[2]["content-type"] == "application/zip"


@pytest.mark.wide
def test_what_is_served_and_health(server: Server) -> None:
    told = json.loads(server.get("/"))
    assert (told["plan"], told["class"]) == ("x", "FluxPipeline")
    assert told["device"].startswith("sim:0")
    assert told["peak_bytes"] is None
    assert told["weights_peak_bytes"] > 0
    assert server.get("/-/healthz") == b"success"


@pytest.mark.wide
def test_refusals(server: Server) -> None:
    assert server.codes({"promt": "x"}) == (422, ["P915"])
    assert server.codes({"ip_adapter_image": "/etc/passwd"}) == (422, ["P987"])
    assert server.codes("a cat") == (400, ["P986"])
    assert server.codes(json.dumps({"prompt": "x" * (33 << 20)})) == (413, ["P986"])
    assert server.codes({"max_sequence_length": 9999}) == (500, ["P004"])
    status, _, headers = server.post({}, "PUT")
    assert (status, headers["allow"]) == (405, "GET, HEAD, POST")


@pytest.mark.wide
def test_clients_that_go_away(server: Server, applied: Callable[[int], bytes]) -> None:
    long = {"seed": 1, "num_inference_steps": 2000}
    cancelled = server.figures().get("offload_plan_serve_cancelled_total", 0)
    running = server.start(long)
    until(lambda: server.figures().get("serve_num_ongoing_requests_at_replicas", 0) >= 2)  # and the ingress's
    waiting = server.start(long)
    time.sleep(1)
    waiting.close()
    running.close()
    began = time.monotonic()
    status, body, _ = server.post({"seed": 7})
    assert (status, body) == (200, applied(7))
    assert time.monotonic() - began < 30  # 2000 steps take longer
    calls = server.figures().get("offload_plan_serve_calls_total", 0)
    server.post({"seed": 7})
    until(lambda: server.figures()["offload_plan_serve_calls_total"] > calls)  # what was told before is there
    # Of the two, the one that waited never came to the replica.
    assert server.figures()["offload_plan_serve_cancelled_total"] == cancelled + 1


@pytest.mark.wide
def test_a_full_queue(server: Server, applied: Callable[[int], bytes]) -> None:
    said: list[tuple[int, bytes, dict[str, str]]] = []
    long = {"seed": 1, "num_inference_steps": 100}
    asking = [threading.Thread(target=lambda: said.append(server.post(long))) for _ in range(6)]
    for one in asking:
        one.start()
    for one in asking:
        one.join()
    refused = [(body, headers) for status, body, headers in said if status == 503]
    assert refused
    assert {json.loads(body)["errors"][0]["code"] for body, _ in refused} == {"P989"}
    assert all(headers["retry-after"] for _, headers in refused)
    assert [status for status, _, _ in said].count(200) == 6 - len(refused) >= 2
    assert server.post({"seed": 7})[1] == applied(7)


@pytest.mark.wide
def test_figures_for_prometheus(server: Server) -> None:
    server.post({"seed": 7})
    server.post({"max_sequence_length": 9999})
    ours = {"calls_total", "failures_total", "call_seconds_count", "moved_bytes_total", "weights_peak_bytes"}
    wanted = {*(f"offload_plan_serve_{name}" for name in ours), "serve_deployment_queued_queries"}
    until(lambda: wanted <= {*server.figures()})
    until(lambda: server.figures()["offload_plan_serve_call_seconds_count"] >= 1)
    assert server.figures()["offload_plan_serve_weights_peak_bytes"] > 0


@pytest.mark.wide
def test_a_replica_that_is_unhealthy_is_replaced(server: Server, applied: Callable[[int], bytes]) -> None:
    before = server.replica()
    assert server.process.stdin is not None
    server.process.stdin.write("take the plan off\n")
    server.process.stdin.flush()
    until(lambda: not before.is_running() or before.status() == psutil.STATUS_ZOMBIE, 120)
    status, body, _ = server.post({"seed": 7})
    assert (status, body) == (200, applied(7))


@pytest.mark.wide
def test_a_replica_that_dies_is_replaced(server: Server, applied: Callable[[int], bytes]) -> None:
    dies = server.start({"seed": 1, "num_inference_steps": 2000})
    until(lambda: server.figures().get("serve_num_ongoing_requests_at_replicas", 0) >= 2)
    before = server.replica()
    before.kill()
    answer = dies.getresponse()
    assert (answer.status, json.loads(answer.read())["errors"][0]["code"]) == (500, "P004")
    status, body, _ = server.post({"seed": 7})
    assert (status, body) == (200, applied(7))
    assert server.replica().pid != before.pid
