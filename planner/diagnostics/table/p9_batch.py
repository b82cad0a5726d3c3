"""P96x, P98x, P990: rows of a batch, and the folder that its outputs go to."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Code, Severity

ROW_UNREADABLE = Code(
    id="P960",
    name="row-unreadable",
    severity=Severity.ERROR,
    help="Each line of a .jsonl file is one JSON object in UTF-8, of at most 1 MiB, each key "
    "once; a .csv file begins with a line of names, and each row has as many values. "
    "Nothing was run.",
    wrong='{"id": "a", "prompt": "a cat"',
    right='{"id": "a", "prompt": "a cat"}',
)
BAD_ROW_ID = Code(
    id="P961",
    name="bad-row-id",
    severity=Severity.ERROR,
    help="A row's id names its output: 1 to 100 of the characters a-z, A-Z, 0-9, '.', '_' and '-', no "
    "'.' or '-' at the start, no name that Windows reserves, and no other row's, whatever the case. An id "
    "that is another's with -0, -1 after it is refused too: several outputs of one row are called so. A row "
    "without an id is called by a digest of its arguments.",
    wrong='{"id": "../cat", "prompt": "a cat"}',
    right='{"id": "cat", "prompt": "a cat"}',
)
INPUTS_UNREADABLE = Code(
    id="P962",
    name="inputs-unreadable",
    severity=Severity.ERROR,
    exit_code=4,
    help="The rows of a batch are read from .jsonl, .csv or .parquet, or as JSON lines from - (stdin).",
    wrong="plan batch flux.plan.yaml --inputs rows.xlsx --out pictures",
    right="plan batch flux.plan.yaml --inputs rows.csv --out pictures",
)
NO_PARQUET = Code(
    id="P963",
    name="parquet-package-missing",
    severity=Severity.ERROR,
    exit_code=4,
    help="Parquet is read by pyarrow, which the base installation does not bring.",
    wrong="plan batch flux.plan.yaml --inputs rows.parquet --out pictures",
    right="pip install 'offload-planner[batch]'",
)
BATCH_LOCKED = Code(
    id="P964",
    name="batch-locked",
    severity=Severity.ERROR,
    exit_code=4,
    help="Another batch writes to that folder. Two with one folder would run the same rows.",
    wrong="plan batch a.plan.yaml --inputs r.csv --out x & plan batch a.plan.yaml --inputs r.csv --out x",
    right="plan batch a.plan.yaml --inputs r.csv --out x && plan batch a.plan.yaml --inputs r.csv --out x",
)
BATCH_CHANGED = Code(
    id="P965",
    name="batch-changed",
    severity=Severity.ERROR,
    exit_code=2,
    help="The folder has outputs under the same ids that were made of something else: another plan, row, "
    "image or seed, or with other versions of the libraries. --force makes them again; another --out keeps "
    "both.",
    wrong="plan batch flux.plan.yaml --inputs rows.csv --out x --set run.num_inference_steps=8",
    right="plan batch flux.plan.yaml --inputs rows.csv --out y --set run.num_inference_steps=8",
)
ROW_DIED = Code(
    id="P966",
    name="row-died",
    severity=Severity.ERROR,
    exit_code=4,
    help="The process ended three times while this row ran or was written: killed by the system where memory "
    "was short, by a fault of a library, or by hand. The row is set aside and the others go on. A row is "
    "written while the next one runs, so that one of the three may be another row's: both "
    "run alone from there on. --retry tries it again.",
    wrong="plan batch flux.plan.yaml --inputs rows.csv --out x  # a row larger than the machine",
    right="plan batch flux.plan.yaml --inputs rows.csv --out x --retry",
)
BATCH_UNWRITABLE = Code(
    id="P967",
    name="batch-unwritable",
    severity=Severity.ERROR,
    exit_code=4,
    help="The folder of the outputs cannot be written: full, gone, or not allowed. The batch stopped; what "
    "is finished is kept, and running it again goes on from there.",
    wrong="plan batch flux.plan.yaml --inputs rows.csv --out /full/x",
    right="plan batch flux.plan.yaml --inputs rows.csv --out /roomy/x",
)
WORKERS_REFUSED = Code(
    id="P968",
    name="workers-refused",
    severity=Severity.ERROR,
    exit_code=2,
    help="One worker has one device, of those that the plan's device key allows: auto and cuda all that are "
    "there, cuda:1 that one. More workers than devices would share their memory, which no budget tells. In "
    "simulation there are as many as are asked for.",
    wrong="plan batch flux.plan.yaml --inputs rows.csv --out x --workers 8  # two GPUs",
    right="plan batch flux.plan.yaml --inputs rows.csv --out x --workers 2",
)
WORKERS_DIED = Code(
    id="P969",
    name="workers-died",
    severity=Severity.ERROR,
    exit_code=4,
    help="Workers end before they have loaded the pipeline, each of them three times: memory of the host is "
    "short for so many copies of the weights, or a library fails while it is imported. The logs of the "
    "workers are in OUT/.batch. A script that calls planner.batch with workers needs the guard that Python's "
    "multiprocessing asks for, since each worker imports it.",
    wrong='planner.batch("flux.plan.yaml", "rows.csv", "x", workers=2)',
    right='if __name__ == "__main__":\n    planner.batch("flux.plan.yaml", "rows.csv", "x", workers=2)',
)
RAY_MISSING = Code(
    id="P980",
    name="ray-missing",
    severity=Severity.ERROR,
    exit_code=4,
    help="The engine ray is Ray Data, which the base installation does not bring. --engine local needs "
    "nothing and gives the same files on one machine.",
    wrong="plan batch flux.plan.yaml --inputs rows.csv --out x --engine ray",
    right="pip install 'offload-planner[ray]'",
)
RAY_FAILED = Code(
    id="P981",
    name="ray-failed",
    severity=Severity.ERROR,
    exit_code=4,
    help="The Ray cluster cannot be reached, or it broke while the batch ran. What is finished is kept, and "
    "running the batch again goes on from there.",
    wrong="plan batch flux.plan.yaml --inputs rows.csv --out x --engine ray --address gone:6379",
    right="plan batch flux.plan.yaml --inputs rows.csv --out x --engine ray --address head:6379",
)
WEIGHTS_COPIED = Code(
    id="P982",
    name="weights-copied",
    severity=Severity.NOTE,
    help="The workers of a machine share one copy of the weights, which nobody may write. A worker has a "
    "copy of its own of all where the system cannot share (Linux can), where the pipeline cannot be pickled, "
    "where CUDA does not register what is shared, and after a row that ended its process with a fault; and "
    "of what rows change: a VAE that is cast to float32. Fewer workers take less of the host's memory.",
    wrong="plan batch sdxl.plan.yaml --inputs rows.csv --out x --workers 8  # a float16 VAE that is cast",
    right="plan batch sdxl.plan.yaml --inputs rows.csv --out x --workers 4",
)
METRICS_MISSING = Code(
    id="P983",
    name="metrics-package-missing",
    severity=Severity.ERROR,
    exit_code=4,
    help="--metrics is written by prometheus_client, which the base installation does not bring.",
    wrong="plan batch flux.plan.yaml --inputs rows.csv --out x --metrics batch.prom",
    right="pip install 'offload-planner[metrics]'",
)
ROWS_MISSING = Code(
    id="P990",
    name="no-rows",
    severity=Severity.ERROR,
    exit_code=2,
    help="The file of a batch's rows can be read, and there are none: it is empty, or has names of columns "
    "alone. Nothing was run.",
    wrong="plan batch flux.plan.yaml --inputs empty.jsonl --out pictures",
    right="plan batch flux.plan.yaml --inputs rows.jsonl --out pictures",
)

CODES = (
    ROW_UNREADABLE,
    BAD_ROW_ID,
    INPUTS_UNREADABLE,
    NO_PARQUET,
    BATCH_LOCKED,
    BATCH_CHANGED,
    ROW_DIED,
    BATCH_UNWRITABLE,
    WORKERS_REFUSED,
    WORKERS_DIED,
    RAY_MISSING,
    RAY_FAILED,
    WEIGHTS_COPIED,
    METRICS_MISSING,
    ROWS_MISSING,
)
