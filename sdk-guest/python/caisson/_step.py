"""One entry of a step: from the interface's types to the plugin's function and back."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from typing import Any

from componentize_py_types import Err
from wit_world.imports import log as _log
from wit_world.imports import types as _wire

from ._values import Context, Failure, Resumed, Suspend, Wake, dumps

_FRAMES_MAX = 20


class _Lines(io.TextIOBase):
    """`print` as log lines: what standard output still buffers is lost when the instance ends."""

    def __init__(self, level: _log.Level) -> None:
        self._level = level
        self._open = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._open = (self._open + text).split("\n")
        for line in lines:
            _log.write(self._level, line, None)
        return len(text)

    def flush(self) -> None:
        if self._open:
            _log.write(self._level, self._open, None)
            self._open = ""


def enter(plugin: Any, call: _wire.Invocation) -> _wire.Outcome:
    """Runs one entry of a step. Not for plugins."""
    sys.stdout, sys.stderr = _Lines(_log.Level.INFO), _Lines(_log.Level.ERROR)
    try:
        return _outcome(action(plugin, call.action)(json.loads(call.input), _context(call)))
    except Failure as failure:
        raise Err(_failure(failure.category, failure.code, failure.message, failure.details, failure.retry)) from None
    except Exception as error:  # noqa: BLE001: whatever it is, it is the step's failure
        raise Err(_script_error(error)) from None
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def action(plugin: Any, name: str) -> Any:
    """The function behind an action. Not for plugins."""
    written = name.replace("-", "_")
    function = getattr(plugin, written, None)
    if callable(function) and not written.startswith("_"):
        return function
    message = f"the plugin has no function for action '{name}': define `def {written}(input, context):` in plugin.py"
    raise Failure("UNKNOWN_ACTION", message, category="validation", retry="never")


def _context(call: _wire.Invocation) -> Context:
    resumed = None
    if call.resumed is not None:
        kept = bytes(call.resumed.state)
        resumed = Resumed(json.loads(kept) if kept else None, _wake(call.resumed.wake))
    ids = {name.name: getattr(call.context, name.name) for name in dataclasses.fields(call.context)}
    return Context(action=call.action, **ids, config=json.loads(call.config or "{}"), resumed=resumed)


def _wake(wake: _wire.Wake) -> Wake:
    match wake:
        case _wire.Wake_Signal(signal):
            return Wake("signal", name=signal.name, payload=json.loads(signal.payload), actor=signal.actor)
        case _wire.Wake_Approval(decision):
            verdict = decision.verdict.name.lower().replace("_", "-")
            return Wake("approval", verdict=verdict, actor=decision.actor, comment=decision.comment)
        case _wire.Wake_Cancelled(reason):
            return Wake("cancelled", reason=reason)
        case _:
            return Wake("timer")


def _outcome(result: Any) -> _wire.Outcome:
    if not isinstance(result, Suspend):
        return _wire.Outcome_Done(dumps(result, "the result"))
    if not result.signals and result.wake_after_ms is None and result.approval is None:
        raise TypeError("Suspend needs a reason to wake: signals, wake_after_ms or approval")
    approval = None
    if result.approval is not None:
        summary = None if result.approval.summary is None else dumps(result.approval.summary, "summary")
        approval = _wire.ApprovalRequest(
            result.approval.message, summary, list(result.approval.approvers), result.approval.deadline_ms
        )
    state = b"" if result.state is None else dumps(result.state, "the state").encode()
    return _wire.Outcome_Suspend(_wire.Suspension(state, list(result.signals), result.wake_after_ms, approval))


def _script_error(error: BaseException) -> _wire.Failure:
    frames = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        folder, _, file = code.co_filename.rpartition("/")
        # This package and its entry point are mounted at /1, the plugin at /0.
        if not folder.startswith("/1"):
            frames.append(f"at {code.co_name} ({file}:{trace.tb_lineno})")
        trace = trace.tb_next
    frames = frames[::-1][:_FRAMES_MAX]
    name = type(error).__name__
    message = f"{name}: {error}"
    if frames:
        message += " " + frames[0][frames[0].rindex("(") :]
    if isinstance(error, ImportError):
        message += ": import it at the top of plugin.py, modules are loaded when the component is built"
    return _failure("action", "SCRIPT_ERROR", message, {"name": name, "message": str(error), "stack": frames}, "default")


def _failure(category: str, code: str, message: str, details: Any, retry: str | int) -> _wire.Failure:
    try:
        written = None if details is None else dumps(details, "details")
    except TypeError:
        # A failure without its details is better than another failure.
        written = None
    advice = {"default": _wire.Retry_Default, "never": _wire.Retry_Never}.get(str(retry))
    wait = advice() if advice else _wire.Retry_AfterMs(int(retry))
    return _wire.Failure(_wire.Category[category.upper()], code, message, written, wait)
