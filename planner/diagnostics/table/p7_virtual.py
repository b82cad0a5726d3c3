"""P75x: the virtual accelerator, and what it sees a session do wrong."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Code, Severity

BACKEND_MISSING = Code(
    id="P750",
    name="no-python-backend",
    severity=Severity.ERROR,
    exit_code=4,
    help="Simulation registers a virtual accelerator through torch's experimental Python backend. This "
    "torch has none, or refuses it. The plan itself is not to blame: it validates, compiles and runs on a "
    "real device as before.",
    wrong="pip install torch==2.6.0\nplan apply flux.plan.yaml --simulate",
    right="pip install 'torch>=2.10'\nplan apply flux.plan.yaml --simulate",
)
BACKEND_TAKEN = Code(
    id="P751",
    name="backend-taken",
    severity=Severity.ERROR,
    exit_code=4,
    help="torch has one place for a backend from outside, and another package has it in this process "
    "(an NPU driver, for example). Simulate in a process that does not import that package.",
    wrong="import torch_npu\nplanner.apply('flux.plan.yaml', pipe, device='sim')",
    right="TORCH_DEVICE_BACKEND_AUTOLOAD=0 plan apply flux.plan.yaml --simulate",
)
MISS = Code(
    id="P752",
    name="miss",
    severity=Severity.ERROR,
    exit_code=5,
    help="A component's weights were used while they were not on the device, and no hook saw it. On a "
    "real card this is the error 'Expected all tensors to be on the same device', or a slow computation "
    "on the CPU. Name the entry point that was used in the plan's order, or exclude the component.",
    wrong="order: text_encoder -> transformer\n# the pipeline reads vae.bn by itself",
    right="order: text_encoder -> transformer -> vae\nexclude: [vae]",
)
READ_EARLY = Code(
    id="P753",
    name="read-before-wait",
    severity=Severity.ERROR,
    exit_code=3,
    help="Weights were read while the copy that brings them had not been waited for. On a real card the "
    "bytes would be whatever was there before. This is a fault of the session, not of the plan.",
    wrong="device.copy(piece, 0, host)\nlayer(x)",
    right='device.copy(piece, 0, host)\ndevice.wait("compute", device.record("copy"))\nlayer(x)',
)
USE_AFTER_FREE = Code(
    id="P754",
    name="use-after-free",
    severity=Severity.ERROR,
    exit_code=3,
    help="Weights were used, copied to or freed after their memory had been given back. This is a fault "
    "of the session, not of the plan.",
    wrong="device.free(piece)\nlayer(x)",
    right="layer(x)\ndevice.free(piece)",
)
WRITE_EARLY = Code(
    id="P755",
    name="write-under-reader",
    severity=Severity.ERROR,
    exit_code=3,
    help="A copy was queued into memory whose last reader the copy lane had not waited for. On a real "
    "card the reader may see the new bytes. This is a fault of the session, not of the plan.",
    wrong='piece = device.alloc(n, "unet")\ndevice.copy(piece, 0, host)',
    right='piece = device.alloc(n, "unet")\ndevice.wait("copy", device.record("compute"))\n'
    "device.copy(piece, 0, host)",
)
FREE_IN_FLIGHT = Code(
    id="P756",
    name="free-in-flight",
    severity=Severity.ERROR,
    exit_code=3,
    help="Memory was given back while a copy into it was still under way: the copy would land in whatever "
    "is put there next. This is a fault of the session, not of the plan.",
    wrong="device.copy(piece, 0, host)\ndevice.free(piece)",
    right='device.copy(piece, 0, host)\ndevice.wait("compute", device.record("copy"))\ndevice.free(piece)',
)
WRONG_BYTES = Code(
    id="P757",
    name="wrong-bytes",
    severity=Severity.ERROR,
    exit_code=3,
    help="Weights on the device, or the host's own, were not those that the pipeline had before the call. "
    "This is a fault of the session, not of the plan.",
    wrong="device.copy(piece, 0, host)      # the tensor lies at 512",
    right="device.copy(piece, 512, host)",
)
NOT_FREED = Code(
    id="P758",
    name="not-freed",
    severity=Severity.ERROR,
    exit_code=3,
    help="A component's weights were still on the device when they should have left. This is a fault of "
    "the session, not of the plan.",
    wrong="with session: pipe('a cat')       # and unet is still there",
    right="with session: pipe('a cat')       # nothing but what the plan keeps",
)
LEDGER_DEPARTS = Code(
    id="P759",
    name="ledger-departs",
    severity=Severity.ERROR,
    exit_code=5,
    help="What the ledger of the virtual accelerator saw come and go is not what the schedule said: "
    "another order, other bytes, or another component. The first difference is shown.",
    wrong="planned: load unet 512, free unet\nseen:    load unet 512",
    right="planned: load unet 512, free unet\nseen:    load unet 512, free unet",
)
PEAK_DIFFERS = Code(
    id="P760",
    name="ledger-peak-differs",
    severity=Severity.ERROR,
    exit_code=5,
    help="The most bytes of weights that lay on the virtual accelerator at once are not what the schedule "
    "promised; or a call that departed from its walk passed the budget.",
    wrong="planned: a peak of 1024 bytes\nseen:    a peak of 1536 bytes",
    right="planned: a peak of 1024 bytes\nseen:    a peak of 1024 bytes",
)
DEPARTED = Code(
    id="P761",
    name="simulated-departure",
    severity=Severity.NOTE,
    help="The simulated call did not keep to the plan's walk: a component was used that the walk does not "
    "have there, or one that it has was not used. The result is right; the order of moves was not "
    "compared. Write the walk as the call makes it to have it compared.",
    wrong="order: text_encoder -> unet          # and the call ends with vae.decode",
    right="order: text_encoder -> unet -> vae",
)
FREE_ALIASED = Code(
    id="P762",
    name="free-while-aliased",
    severity=Severity.ERROR,
    exit_code=3,
    help="Memory was given back while a tensor that the session had not made still referred to it: a view of "
    "a weight that the pipeline keeps, or one that autograd saved. On a real card reading it is an illegal "
    "memory access. This is a fault of the session, not of the plan.",
    wrong="kept = layer.weight[:1]\ndevice.free(piece)",
    right="kept = layer.weight[:1].clone()\ndevice.free(piece)",
)
OVERWRITE_ALIASED = Code(
    id="P763",
    name="overwrite-while-aliased",
    severity=Severity.ERROR,
    exit_code=3,
    help="A copy was queued over bytes to which a tensor that the session had not made still referred: it "
    "would change its value. This is a fault of the session, not of the plan.",
    wrong="kept = layer.weight[:1]\ndevice.copy(piece, 0, next_block)",
    right="kept = layer.weight[:1].clone()\ndevice.copy(piece, 0, next_block)",
)

CODES = (
    BACKEND_MISSING,
    BACKEND_TAKEN,
    MISS,
    READ_EARLY,
    USE_AFTER_FREE,
    WRITE_EARLY,
    FREE_IN_FLIGHT,
    WRONG_BYTES,
    NOT_FREED,
    LEDGER_DEPARTS,
    PEAK_DIFFERS,
    DEPARTED,
    FREE_ALIASED,
    OVERWRITE_ALIASED,
)
