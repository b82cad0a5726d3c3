"""What a pipeline returned, as files: images, a video, sound."""

from __future__ import annotations

import os
import tempfile
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p9_machine import BAD_OUTPUT, OUTPUT_UNWRITABLE, UNKNOWN_OUTPUT
from planner.loading.arrays import frames_of, is_batch_of_images, samples_of
from planner.plan.model import Plan

Kind = Literal["image", "video", "audio"]
SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "image": (".png", ".jpg", ".jpeg", ".webp", ".bmp"),
    "video": (".mp4", ".gif", ".webm"),
    "audio": (".wav",),
}
FIELDS: dict[str, Kind] = {"images": "image", "frames": "video", "audios": "audio", "audio": "audio"}
"""Of diffusers' output classes, and what they hold. A video may come with its sound."""
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
) -> list[Path]:
    """Writes what a call returned and says where.

    Without ``out``: ``NAME-SEED.png`` (``.mp4``, ``.wav``) in the current folder, ``-2`` and so on after
    a name that is taken. ``out``: a file, whose suffix chooses the format, or a folder; a file that is
    there is replaced. Several outputs are ``-0``, ``-1`` and so on. Each file appears whole or not at
    all. Raises PlanError.
    """
    made = outputs_of(result)
    number = seed if seed is not None else plan.run.get("seed", 0)
    paths = _paths(made, out, f"{_safe(plan.name)}-{number}")
    for one, path in zip(made, paths, strict=True):
        _atomically(path, lambda temporary, one=one: _write(one, temporary, fps, sample_rate))  # type: ignore[misc]
    return paths


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
    """The images, videos or sounds in what a pipeline returned, of any ``output_type`` that has pixels.

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
    raise _unknown(result)


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
    said = (
        f'expected images, frames or audio, found a "{type(result).__name__}" with none that can be written'
    )
    return PlanError([finding(UNKNOWN_OUTPUT, said)])


def _paths(made: Sequence[Made], out: str | Path | None, stem: str) -> list[Path]:
    """One a piece; the suffix of ``out`` is for the first kind, what comes with it has its default one."""
    first = made[0].kind
    if out is None or Path(out).is_dir():
        named = [Path(out or ".", f"{stem}{n}{SUFFIXES[m.kind][0]}") for m, n in _numbered(made)]
        return _free(named, stem)
    path = Path(out)
    if path.suffix.lower() not in SUFFIXES[first]:
        known = ", ".join(SUFFIXES[first])
        said = f'"{path.name}" cannot hold the {first} that the pipeline made: expected {known}'
        hint = f"--out {path.with_suffix(SUFFIXES[first][0])}"
        raise PlanError([finding(BAD_OUTPUT, said, hint=hint)])
    suffixes = {kind: of[0] for kind, of in SUFFIXES.items()} | {first: path.suffix}
    return [path.with_name(f"{path.stem}{n}{suffixes[m.kind]}") for m, n in _numbered(made)]


def check_out(out: str | Path) -> None:
    """Says before the run what ``save`` would say after it: no format has this suffix, no such folder.

    Raises PlanError.
    """
    path = Path(out)
    known = [suffix for suffixes in SUFFIXES.values() for suffix in suffixes]
    if not path.is_dir() and path.suffix.lower() not in known:
        raise PlanError(
            [finding(BAD_OUTPUT, f'no format for "{path.name}": the suffix may be {", ".join(known)}')]
        )
    if not path.is_dir() and not path.parent.is_dir():
        raise PlanError([finding(OUTPUT_UNWRITABLE, f'there is no folder "{path.parent}"')])


def _numbered(made: Sequence[Made]) -> Iterator[tuple[Made, str]]:
    """Each with ``-0``, ``-1`` and so on among those of its kind; nothing where it is the only one."""
    for one in made:
        same = [other for other in made if other.kind == one.kind]
        yield one, f"-{next(i for i, o in enumerate(same) if o is one)}" if len(same) > 1 else ""


def _free(paths: list[Path], stem: str) -> list[Path]:
    """All of one run share a number, so that they stay together."""
    number = 1
    while True:
        named = [
            path.with_name(path.name.replace(stem, f"{stem}-{number}", 1)) if number > 1 else path
            for path in paths
        ]
        if not any(path.exists() for path in named):
            return named
        number += 1


def _safe(name: str) -> str:
    """A plan's name as a file's: ``name`` may hold anything."""
    kept = "".join(c if c.isalnum() or c in "._- " else "_" for c in name).strip(". ")
    return kept or "plan"


def _atomically(path: Path, write: Callable[[Path], None]) -> None:
    temporary = None
    try:
        handle, name = tempfile.mkstemp(prefix=".writing-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp's 0600 would keep it from others
        temporary.replace(path)
    except OSError as error:
        said = f'cannot write "{path}": {error.strerror or error}'
        raise PlanError([finding(OUTPUT_UNWRITABLE, said)]) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _write(made: Made, path: Path, fps: int, sample_rate: int) -> None:
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
