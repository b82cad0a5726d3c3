"""The two deployments of a served plan: an ingress that checks requests, and replicas with a device each.

A request that is wrong is told so at once, and none waits for a picture to be told what the plan is: only
calls that can run are handed on, and Ray Serve queues them at the handle of the replicas.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from ray import serve
from ray.serve.config import RequestRouterConfig
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from planner.batches.packed import packed, unpacked
from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p0_tool import RUN_FAILED
from planner.diagnostics.table.p9_serve import QUEUE_FULL, REQUEST_UNREADABLE
from planner.plan.run import SEED
from planner.serving.answer import Answer, refusal
from planner.serving.arguments import Arguments
from planner.serving.build import Built, build
from planner.serving.metrics import Metrics
from planner.serving.replica import Replica
from planner.serving.request import Asked, unreadable

SPARE = 16
"""Requests beside those that wait and run: what a plan is, and what is refused."""
READERS = 2
"""Bodies that are read at a time: each may have images of half a gigabyte."""
PATIENCE = 2.0
"""Seconds that a GET waits for a replica to be free."""
BACKOFF = RequestRouterConfig(initial_backoff_s=0.01, max_backoff_s=0.05)
"""How long the queue looks away from replicas that are all busy: by default up to half a second a call."""


class Ingress:
    """GET / tells what is served, POST / makes a call."""

    def __init__(self, asked: bytes, info: Mapping[str, Any], most: int, replicas: DeploymentHandle) -> None:
        """``asked``: packed; ``most``: bytes of a body."""
        self.asked: Asked = unpacked(asked)
        self.info, self.most, self.replicas = info, most, replicas
        self._readers = ThreadPoolExecutor(READERS, "offload-plan")
        self._telling: asyncio.Task[Mapping[str, Any]] | None = None

    async def __call__(self, request: Request) -> Response:
        """As Ray Serve calls it."""
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        if path not in ("", "/"):
            return JSONResponse({"errors": [{"message": "there is / alone"}]}, 404)
        if request.method in ("GET", "HEAD"):
            return JSONResponse(await self._told())
        if request.method != "POST":
            allowed = {"Allow": "GET, HEAD, POST"}
            return JSONResponse({"errors": [{"message": "GET or POST"}]}, 405, headers=allowed)
        try:
            return _response(await self._answered(request))
        except ClientDisconnect:
            return Response(status_code=499)

    async def _told(self) -> Mapping[str, Any]:
        """What a replica says too, once one was free to say it."""
        if self._telling is None:
            self._telling = asyncio.ensure_future(_said(self.replicas))
        done, _ = await asyncio.wait([self._telling], timeout=PATIENCE)
        if not done:
            return self.info
        if self._telling.cancelled() or self._telling.exception() is not None:
            self._telling = None
            return self.info
        return {**self.info, **self._telling.result()}

    async def _answered(self, request: Request) -> Answer:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # what a browser's form may not send to another site
            said = unreadable('the content type is not "application/json"')
            return refusal(415, said.diagnostics)
        body = await _body(request, self.most)
        if body is None:
            said = unreadable(f"the body is longer than {self.most} bytes")
            return refusal(413, said.diagnostics)
        try:
            given = await asyncio.get_running_loop().run_in_executor(self._readers, self.asked.read, body)
        except PlanError as error:
            unread = any(d.code is REQUEST_UNREADABLE for d in error.diagnostics)
            return refusal(400 if unread else 422, error.diagnostics)
        given.setdefault(SEED, secrets.randbits(32))
        waiting = self.replicas.remote(given)
        try:
            made: Answer = await waiting
        except BackPressureError:
            full = finding(QUEUE_FULL, "as many requests wait as may; ask again later")
            return refusal(503, [full], {"Retry-After": "5"})
        except ray.exceptions.RayError as error:  # mostly that its process ended: Serve starts another
            why = f"the replica failed: {type(error).__name__}"
            return refusal(500, [finding(RUN_FAILED, why)])
        except asyncio.CancelledError:
            waiting.cancel()
            raise
        return made


class Pipeline:
    """A replica as Ray Serve makes it."""

    def __init__(self, plan: bytes, device: str, threads: int, token: str | None) -> None:
        """``plan``: packed; the others as for ``Replica``."""
        try:
            self.replica = Replica(unpacked(plan), device, threads, token)
        except PlanError as error:
            raise RuntimeError(str(error)) from None  # Ray pickles it
        self.metrics = Metrics()

    async def __call__(self, given: Mapping[str, Any]) -> Answer:
        """The answer to a request that was checked."""
        try:
            made = await self.replica.call(given)
        except asyncio.CancelledError:
            self.metrics.cancelled()
            raise
        self.metrics.answered(made)
        return made

    async def told(self) -> Mapping[str, Any]:
        """The device, and what is predicted for it."""
        return self.replica.info

    async def check_health(self) -> None:
        """As Ray Serve asks for it: raises where the replica is to be replaced."""
        await self.replica.check()


def application(given: Arguments) -> serve.Application:
    """The plan as a Ray Serve application. Raises PlanError (``planner.serving.build.build``)."""
    gpus = int(ray.cluster_resources().get("GPU", 0)) if ray.is_initialized() else None
    built = build(given, gpus)
    pipelines = serve.deployment(Pipeline, name="Pipeline").options(
        num_replicas=built.replicas,
        ray_actor_options=_resources(built),
        max_ongoing_requests=1,
        request_router_config=BACKOFF,
        max_queued_requests=given.max_queued_requests,
    )
    ingress = serve.deployment(Ingress, name="Ingress").options(
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=given.max_queued_requests + built.replicas + SPARE,
        max_queued_requests=SPARE,
    )
    asked = built.asked
    token = secrets.token_hex(8) if built.replicas > 1 else None
    replicas = pipelines.bind(packed(asked.plan), built.device, built.threads, token)
    return ingress.bind(packed(asked), dict(built.info), given.max_body_bytes, replicas)


async def _said(replicas: DeploymentHandle) -> Mapping[str, Any]:
    said: Mapping[str, Any] = await replicas.told.remote()
    return said


def _resources(built: Built) -> dict[str, int]:
    return {"num_cpus": 1} if built.device.startswith("sim") else {"num_gpus": 1}


def _response(made: Answer) -> Response:
    return Response(made.body, made.status, dict(made.headers), made.type)


async def _body(request: Request, most: int) -> bytes | None:
    """None where it is longer; no more of it is kept than that."""
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > most:
        return None
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            return None
    return bytes(body)
