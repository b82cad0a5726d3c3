"""What a pipeline returned, as files: images, a video, sound."""

from __future__ import annotations

import os
import tempfile
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, PlanError, Severity, finding
from planner.diagnostics.table.p9_machine import BAD_OUTPUT, OUTPUT_UNWRITABLE, UNKNOWN_OUTPUT
from planner.diagnostics.table.p9_output import OUTPUT_ELSEWHERE, OUTPUT_TAKEN
from planner.loading.arrays import as_array, frames_of, is_array, is_batch_of_images, samples_of
from planner.loading.kinds import FIELDS, SUFFIXES, Kind
from planner.loading.written import written
from planner.plan.model import Plan

LONGEST_NAME = 200
"""Bytes: file systems take 255, and a seed, a number and a suffix come on top."""
FPS = 16
"""Frames a second of a video: what Wan is trained on, and near what the others show well. A file's speed
is no argument of any call, so ``run`` cannot say it."""
SAME_BYTES = ("-fflags", "+bitexact", "-flags:v", "+bitexact", "-map_metadata", "-1", "-threads", "1")
"""For ffmpeg: no encoder's name, no dates, and no dependence on the number of cores."""
SAMPLE_RATE = 16000
"""Samples a second where no component of the pipeline says (``sample_rate_of``)."""
RATES = {
    "vocoder": ("output_sampling_rate", "sampling_rate"),
    "vae": ("sampling_rate", "sample_rate"),
    "audio_vae": ("sample_rate",),
    "unet": ("sample_rate",),
}
"""Components that make sound, and where their configs say how many samples a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One file's worth of output: an RGB image (height, width, 3), frames (frames, height, width, 3), both
    uint8, or samples (samples, channels) as int16."""

    kind: Kind
    data: Any


def save(
    result: Any,
    plan: Plan,
    out: str | Path | None = None,
    *,
    seed: int | None = None,
    sample_rate: int = SAMPLE_RATE,
    fps: int = FPS,
    force: bool = False,
) -> list[Path]:
    """Writes what a call returned and says where.

    Without ``out``: ``NAME-SEED.png`` (``.mp4``, ``.wav``) in the current folder, ``-2`` and so on after
    a name that is taken, also by another run at the same moment. ``out``: a file, whose suffix chooses the
    format, or a folder; a file that is there is replaced only with ``force``. Several outputs are ``-0``,
    ``-1`` and so on. All files appear whole, or none does. Raises PlanError.
    """
    return save_outputs(
        outputs_of(result), plan, out, seed=seed, sample_rate=sample_rate, fps=fps, force=force
    )


def save_outputs(
    made: Sequence[Made],
    plan: Plan,
    out: str | Path | None = None,
    *,
    seed: int | None = None,
    sample_rate: int = SAMPLE_RATE,
    fps: int = FPS,
    force: bool = False,
) -> list[Path]:
    """As ``save``, what ``outputs_of`` gave. Raises PlanError."""
    stem = f"{_safe(plan.name)}-{seed if seed is not None else plan.run.get('seed', 0)}"
    for number in count(1):
        paths = _paths(made, out, stem, number)
        try:
            _all_or_none(made, paths, force=force, fps=fps, sample_rate=sample_rate)
        except FileExistsError as error:
            if out is None or Path(out).is_dir():
                continue  # the next number
            said = f'"{error.filename2 or error.filename}" is there already'
            raise PlanError([finding(OUTPUT_TAKEN, said)]) from error
        return paths
    raise AssertionError("numbers do not end")


def save_or_keep(
    result: Any,
    plan: Plan,
    out: str | Path | None = None,
    *,
    seed: int | None = None,
    sample_rate: int = SAMPLE_RATE,
    force: bool = False,
) -> tuple[list[Path], list[Diagnostic]]:
    """``save``; and where that fails, as near to it as can be: what took a run to make is not lost to a name.

    Returns the files, and a finding where they are not where they were to be (P942). An array that is no
    picture is kept as one, and a finding says so (P920): a warning, unless ``out`` names a file; for what
    else nothing can hold it is an error. Raises PlanError where no folder takes it.
    """
    try:
        return save(result, plan, out, seed=seed, sample_rate=sample_rate, force=force), []
    except PlanError as error:
        if any(d.code is UNKNOWN_OUTPUT for d in error.diagnostics):
            kept = keep_array(result, plan, out, seed=seed if seed is not None else plan.run.get("seed", 0))
            if kept is None:
                return [], [*error.diagnostics]
            said = finding(UNKNOWN_OUTPUT, f'{error.first.message}: it was kept as "{kept}"')
            asked = out is not None and not Path(out).is_dir()
            return [kept], [said if asked else said.at(Severity.WARNING)]
        failed = error
    for folder in dict.fromkeys((Path(out or ".").parent, Path(), Path(tempfile.gettempdir()))):
        try:
            paths = save(result, plan, folder, seed=seed, sample_rate=sample_rate)
        except PlanError:
            continue
        why, names = failed.first.message, ", ".join(f'"{path}"' for path in paths)
        return paths, [finding(OUTPUT_ELSEWHERE, f"{why}; the output was kept as {names}")]
    raise failed


def sample_rate_of(pipe: Any) -> int:
    """Samples a second of the sound that ``pipe`` makes, by the component that makes it."""
    for name, keys in RATES.items():
        config = getattr(getattr(pipe, name, None), "config", None)
        for key in keys:
            value = getattr(config, key, None)
            if isinstance(value, int) and value > 0:
                return value
    return SAMPLE_RATE


def outputs_of(result: Any) -> list[Made]:
    """The images, videos or sounds in what a pipeline returned, of any ``output_type`` that has pixels, in
    memory of the host.

    Raises PlanError for anything else (latents, embeddings, text).
    """
    found = []
    for field, kind in FIELDS.items():
        value = getattr(result, field, None)
        if value is not None:
            found += _made(value, kind, result)
    if found:
        return found
    if isinstance(result, (tuple, list)) and result:
        return _made(result[0], None, result)
    if _is_picture(result):  # some classes of people's own return the tensor alone
        return _made(result, "image", result)
    raise _unknown(result)


def keep_array(result: Any, plan: Plan, out: str | Path | None, *, seed: int) -> Path | None:
    """An array that is no picture, as ``NAME-SEED.npy`` beside where the output was to go, ``-2`` and so on
    after a name that is taken: a run made it. None for what is no array, and where no folder takes it."""
    value = result[0] if isinstance(result, (tuple, list)) and result else result
    if not is_array(value):
        return None
    import numpy as np

    array = as_array(value)
    near = Path(out or ".")
    for folder in dict.fromkeys(
        (near if near.is_dir() else near.parent, Path(), Path(tempfile.gettempdir()))
    ):
        for number in count(1):
            path = folder / f"{_safe(plan.name)}-{seed}{f'-{number}' if number > 1 else ''}.npy"
            try:
                written(path, lambda to: np.save(to, array, allow_pickle=False))
                return path
            except FileExistsError:
                continue
            except OSError:
                break
    return None


def _made(value: Any, kind: Kind | None, result: Any) -> list[Made]:
    try:
        if kind == "audio":
            return [Made(kind="audio", data=samples_of(one)) for one in value]
        if kind == "image" or (kind is None and is_batch_of_images(value)):
            return [Made(kind="image", data=image) for image in frames_of(value)]
        videos = [frames_of(one) for one in value]
    except (TypeError, ValueError, IndexError) as error:
        raise _unknown(result) from error
    if kind is None or all(len(video) for video in videos):
        return [Made(kind="video", data=video) for video in videos]
    raise _unknown(result)


def _unknown(result: Any) -> PlanError:
    said = f'expected images, frames or audio, found a "{_what(result)}" with none that can be written'
    return PlanError([finding(UNKNOWN_OUTPUT, said)])


def _is_picture(result: Any) -> bool:
    """Of an output that is one array: by its channels, which latents have four of and more."""
    if not is_array(result) or result.ndim not in (3, 4):
        return False
    return bool(result.shape[-3] in (1, 3) if hasattr(result, "detach") else result.shape[-1] in (1, 3, 4))


def _what(result: Any) -> str:
    return f"tensor of shape {tuple(result.shape)}" if is_array(result) else type(result).__name__


def _paths(made: Sequence[Made], out: str | Path | None, stem: str, number: int) -> list[Path]:
    """One a piece; the suffix of ``out`` is for the first kind, what comes with it has its default one.
    ``number``: which try it is to find names that are free."""
    first = made[0].kind
    if out is None or Path(out).is_dir():
        stem = stem if number == 1 else f"{stem}-{number}"
        return [Path(out or ".", f"{stem}{n}{SUFFIXES[m.kind][0]}") for m, n in _numbered(made)]
    path = Path(out)
    if path.suffix.lower() not in SUFFIXES[first]:
        known = ", ".join(SUFFIXES[first])
        said = f'"{path.name}" cannot hold the {first} that the pipeline made: expected {known}'
        hint = f"--out {path.with_suffix(SUFFIXES[first][0])}"
        raise PlanError([finding(BAD_OUTPUT, said, hint=hint)])
    suffixes = {kind: of[0] for kind, of in SUFFIXES.items()} | {first: path.suffix}
    return [path.with_name(f"{path.stem}{n}{suffixes[m.kind]}") for m, n in _numbered(made)]


def _all_or_none(
    made: Sequence[Made], paths: Sequence[Path], *, force: bool, fps: int, sample_rate: int
) -> None:
    """Raises FileExistsError for a name that is taken, PlanError for what else keeps one from being written;
    those that were new go again."""
    new = []
    try:
        for one, path in zip(made, paths, strict=True):
            fresh = not os.path.lexists(path)
            written(path, partial(_write, one, fps=fps, sample_rate=sample_rate), replace=force)
            new += [path] if fresh else []
    except BaseException as error:
        for path in new:
            path.unlink(missing_ok=True)
        if isinstance(error, Exception) and not isinstance(error, FileExistsError):
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise PlanError([finding(OUTPUT_UNWRITABLE, f'cannot write "{path}": {why}')]) from error
        raise


def _numbered(made: Sequence[Made]) -> Iterator[tuple[Made, str]]:
    """Each with ``-0``, ``-1`` and so on among those of its kind; nothing where it is the only one."""
    for one in made:
        same = [other for other in made if other.kind == one.kind]
        yield one, f"-{next(i for i, o in enumerate(same) if o is one)}" if len(same) > 1 else ""


def _safe(name: str) -> str:
    """A plan's name as a file's: ``name`` may hold anything, and be of any length."""
    kept = "".join(c if c.isalnum() or c in "._- " else "_" for c in name).strip(". ")
    while len(os.fsencode(kept)) > LONGEST_NAME:
        kept = kept[:-1]
    return kept or "plan"


def _write(made: Made, path: Path, *, fps: int, sample_rate: int) -> None:
    if made.kind == "image":
        from PIL import Image

        # No time and no text chunks: the same pixels give the same bytes with the same Pillow.
        Image.fromarray(made.data).save(path)
    elif made.kind == "audio":
        with wave.open(str(path), "wb") as file:
            file.setnchannels(made.data.shape[1])
            file.setsampwidth(2)
            file.setframerate(sample_rate)
            file.writeframes(made.data.astype("<i2").tobytes())
    elif path.suffix.lower() == ".gif":
        from PIL import Image

        first, *rest = [Image.fromarray(frame) for frame in made.data]
        first.save(path, save_all=True, append_images=rest, duration=round(1000 / fps), loop=0)
    else:
        import imageio.v2 as imageio

        # Odd sizes would be scaled to a multiple of 16 by default; 2 is what yuv420p needs.
        writer: Any = imageio.get_writer(
            path, fps=fps, quality=8, macro_block_size=2, output_params=list(SAME_BYTES)
        )
        with writer:
            for frame in made.data:
                writer.append_data(frame)
