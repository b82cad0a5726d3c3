"""A request's body against the pipeline's call, before anything is run: a row of a batch, by a stranger."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from planner.batches.rows import no_constant, once
from planner.diagnostics.diagnostic import Diagnostic, PlanError, errors, finding
from planner.diagnostics.table.p9_machine import MISSING_ARGUMENT, UNKNOWN_ARGUMENT
from planner.diagnostics.table.p9_serve import ARGUMENT_CLOSED, INPUT_NOT_INLINE, REQUEST_UNREADABLE
from planner.document.node import escaped, parts_of
from planner.loading.inputs import input_findings
from planner.loading.media import INLINE
from planner.plan.model import Plan
from planner.plan.run import GIVEN, IMAGES, SEED, VIDEOS, check_run, texts_in, with_run, writable
from planner.target.call import Argument, Call, Form

PROMPTS = re.compile(r"(^|_)prompts?(_|$)")
TEXTS = frozenset(
    {
        *("audio_codes", "complex_human_instruction", "gligen_phrases", "instruction", "keyscale", "lyrics"),
        *("source_subject_category", "target_subject_category", "task_type", "timesignature", "track_name"),
        *("transcription", "vocal_language"),
    }
)
"""Arguments of pipeline classes of diffusers 0.42.1 that take words, beside prompts. Others name files
(``audio_file``, ``fonts``), or nobody looked: ``arguments`` opens them."""
LONGEST = 500
"""Characters of a message: it may quote what was sent."""
INLINE_IMAGE = "data:image/png;base64,..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a request may ask of ``plan``, whose pipeline is a ``cls`` that takes ``call``. ``arguments``: the
    only names that it may have; None: all that the call has."""

    plan: Plan
    call: Call
    cls: str
    arguments: tuple[str, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the arguments that a request may have."""
        if self.arguments is not None:
            return self.arguments
        given = self.call.arguments.values()
        return (*(one.name for one in given if one.name not in GIVEN and _may_be_given(one)), SEED)

    def read(self, body: bytes) -> dict[str, Any]:
        """The arguments in a body. Raises PlanError: P986 for what is no JSON object, else all that is wrong
        with its values."""
        values = _object(body)
        called = with_run(self.plan, {**self.plan.run, **values})
        found = [*self._closed(values), *self._strange(values)]
        found += [_told(d) for d in check_run(called, self.call, self.cls, called=True)]
        if not errors(found):
            own = with_run(self.plan, values)
            found = input_findings(own, inline=True)
        if wrong := errors(found):
            raise PlanError(wrong)
        return values

    def _closed(self, values: Mapping[str, Any]) -> Iterator[Diagnostic]:
        for name in values:
            pointer = f"/run/{escaped(name)}"
            if self.arguments is not None and name not in self.arguments:
                said = f'a request may not have "{name}"'
                hint = f"it may have {', '.join(self.names)}"
                yield finding(ARGUMENT_CLOSED, said, pointer=pointer, hint=hint)
            elif self.call.more and name not in (*self.call.arguments, SEED):  # else check_run says so
                said = f'nothing says that {self.cls} takes an argument "{name}"'
                yield finding(UNKNOWN_ARGUMENT, said, pointer=pointer)

    def _strange(self, values: Mapping[str, Any]) -> Iterator[Diagnostic]:
        """Texts that may name a file or an address: libraries open them for who asks."""
        for name, value in values.items():
            if name in (self.arguments or ()) and name not in IMAGES | VIDEOS:
                continue
            if (wrong := named(name, value, self.call.arguments.get(name))) is not None:
                yield finding(INPUT_NOT_INLINE, wrong, pointer=f"/run/{escaped(name)}")


def as_json(found: tuple[Diagnostic, ...]) -> bytes:
    """Findings for who asked: codes and words, and no place in the server's files."""
    said = [
        {"code": d.code.id, "name": d.code.name, "message": d.message[:LONGEST]}
        | ({"hint": d.hint} if d.hint and d.code.exit_code != 4 else {})
        | ({"argument": path[1]} if len(path := parts_of(d.pointer)) > 1 else {})
        for d in found
    ]
    return json.dumps({"errors": said}).encode()


def unreadable(said: str) -> PlanError:
    """P986, with why."""
    return PlanError([finding(REQUEST_UNREADABLE, said)])


def _object(body: bytes) -> dict[str, Any]:
    try:
        values = json.loads(body.decode("utf-8"), object_pairs_hook=once, parse_constant=no_constant)
    except UnicodeDecodeError:
        raise unreadable("the body is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise unreadable(f"the body is not JSON: {error.msg} at character {error.pos}") from None
    except (ValueError, RecursionError) as error:
        raise unreadable(f"the body cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise unreadable("the body is JSON and no object")
    return values


def named(name: str, value: Any, argument: Argument | None) -> str | None:
    """What is wrong with a value that may name a file, or an address; None where it names none."""
    if name in VIDEOS and isinstance(value, str):
        return f'"{name}" takes a list of its frames, each as {INLINE_IMAGE}'
    if name in IMAGES | VIDEOS:
        outside = any(not text.startswith(INLINE) for text in texts_in(value))
        return f'"{name}" takes {INLINE_IMAGE} and no paths' if outside else None
    if argument is None or name == SEED or next(texts_in(value), None) is None:
        return None
    words = name in TEXTS or PROMPTS.search(name)
    if words and any(map(_takes_text, argument.forms)) and not _mappings(value):
        return None
    return f'"{name}" takes no text from a request'


def _may_be_given(argument: Argument) -> bool:
    """Something of it, that is: not one that takes nothing but texts which may name files."""
    opens = named(argument.name, "x", argument) is not None
    return writable(argument) and not (opens and {*map(_kind, argument.forms)} <= {"str", "list"})


def _kind(form: Form) -> str:
    """Of a list, what its items are, where they are one thing."""
    return _kind(form.items[0]) if form.kind == "list" and len(form.items) == 1 else form.kind


def _takes_text(form: Form) -> bool:
    return form.kind == "str" or any(map(_takes_text, form.items))


def _mappings(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_mappings, value)))


def _told(found: Diagnostic) -> Diagnostic:
    """In words of a request."""
    said = found.message.replace("takes a path", f"takes {INLINE_IMAGE}")
    if found.code is MISSING_ARGUMENT:
        said = said.replace("run has none", "the request has none")
    return replace(found, message=said)
