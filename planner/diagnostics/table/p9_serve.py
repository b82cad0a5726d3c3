"""P984-P989: a plan that is served, and the requests for it."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Code, Severity

SERVE_MISSING = Code(
    id="P984",
    name="serve-missing",
    severity=Severity.ERROR,
    exit_code=4,
    help="planner.serve is a Ray Serve application, and Ray Serve is not in the base installation.",
    wrong="python -c 'import planner.serve'",
    right="pip install 'offload-planner[apply,serve]'",
)
BAD_SERVE_ARGUMENT = Code(
    id="P985",
    name="bad-serve-argument",
    severity=Severity.ERROR,
    exit_code=2,
    help="The application takes plan, and if wanted simulate, num_replicas, max_queued_requests, "
    "max_body_bytes, arguments and set; as NAME=VALUE behind serve run, or as args in Serve's config file.",
    wrong="serve run planner.serve:app plan=flux.plan.yaml replicas=2",
    right="serve run planner.serve:app plan=flux.plan.yaml num_replicas=2",
)
REQUEST_UNREADABLE = Code(
    id="P986",
    name="request-unreadable",
    severity=Severity.ERROR,
    exit_code=2,
    help="The body of a POST is one JSON object in UTF-8, each key once, with the content type "
    "application/json and no longer than max_body_bytes. Nothing was run.",
    wrong="curl -d 'a cat' http://127.0.0.1:8000/",
    right="curl -H 'Content-Type: application/json' -d '{\"prompt\": \"a cat\"}' http://127.0.0.1:8000/",
)
INPUT_NOT_INLINE = Code(
    id="P987",
    name="input-not-inline",
    severity=Severity.ERROR,
    exit_code=2,
    help="A request names no files of the server, and no addresses: its images are data URLs, its videos "
    "lists of them, one a frame, and texts are prompts and what else is known to be words. What else a call "
    "needs is written in the plan; a text that names no file is opened with arguments.",
    wrong='{"image": "/etc/passwd"}',
    right='{"image": "data:image/png;base64,iVBORw0KGgo..."}',
)
ARGUMENT_CLOSED = Code(
    id="P988",
    name="argument-closed",
    severity=Severity.ERROR,
    exit_code=2,
    help="The plan is served with arguments, which says what a request may have, and this is another.",
    wrong='{"prompt": "a cat", "num_inference_steps": 1000}  # arguments=[prompt, seed]',
    right='{"prompt": "a cat", "seed": 7}',
)
QUEUE_FULL = Code(
    id="P989",
    name="queue-full",
    severity=Severity.ERROR,
    exit_code=4,
    help="As many requests wait as max_queued_requests allows. Nothing was run; ask again later.",
    wrong="serve run planner.serve:app plan=flux.plan.yaml max_queued_requests=1",
    right="serve run planner.serve:app plan=flux.plan.yaml max_queued_requests=64 num_replicas=4",
)

CODES = (
    SERVE_MISSING,
    BAD_SERVE_ARGUMENT,
    REQUEST_UNREADABLE,
    INPUT_NOT_INLINE,
    ARGUMENT_CLOSED,
    QUEUE_FULL,
)
