"""What an action gets, and what it returns and raises."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

_CATEGORIES = ("validation", "expression", "action", "transient", "timeout", "policy", "limit")


class Failure(Exception):
    """Why an action failed. `retryOn` and `catch` of a workflow select by `category` and `code`.

    `category` is one of validation, expression, action, transient, timeout, policy and limit; `retry` is "default" (as the workflow
    says), "never", or a number of milliseconds to wait at least. `details` is JSON for programs.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        category: str = "action",
        retry: str | int = "default",
        details: Any = None,
    ) -> None:
        super().__init__(message)
        if category not in _CATEGORIES:
            raise ValueError(f"category {category!r} is unknown: there are {', '.join(_CATEGORIES)}")
        if retry not in ("default", "never") and not isinstance(retry, int):
            raise ValueError(f"retry is 'default', 'never' or milliseconds, not {retry!r}")
        self.code = code
        self.message = message
        self.category = category
        self.retry = retry
        self.details = details


class CapabilityError(Failure):
    """A capability's refusal; `code` says which, for example CAPABILITY_DENIED or NOT_FOUND."""


@dataclass(frozen=True)
class Wake:
    """Why a suspended step runs again: `kind` is signal, approval, timer or cancelled."""

    kind: str
    name: str | None = None
    """The signal's name."""
    payload: Any = None
    """The signal's data."""
    verdict: str | None = None
    """Of an approval: approved, rejected or timed-out."""
    actor: str | None = None
    """Who sent the signal, or decided."""
    comment: str | None = None
    """What they said."""
    reason: str | None = None
    """Why the run is being cancelled: clean up within ten seconds, the outcome is ignored."""

    @property
    def approved(self) -> bool:
        """Whether somebody said yes."""
        return self.verdict == "approved"


@dataclass(frozen=True)
class Resumed:
    """What the step kept when it suspended, and what woke it."""

    state: Any
    wake: Wake


@dataclass(frozen=True)
class Context:
    """Which step of which run this is."""

    action: str
    tenant: str
    environment: str
    workflow: str
    workflow_version: str
    run_id: str
    step_id: str
    state: str
    attempt: int
    """From 1."""
    entry: int
    """How often this attempt was entered before: 0 first, one more for every wake."""
    idempotency_key: str
    """The same for every attempt of this step: hand it to outside systems."""
    deadline_ms: int | None
    traceparent: str | None
    config: dict[str, Any]
    """Set by the operator for this plugin and environment."""
    resumed: Resumed | None
    """None when the attempt begins."""


@dataclass
class Approval:
    """A question to people. Needs the `approval` capability."""

    message: str
    summary: Any = None
    approvers: list[str] = field(default_factory=list)
    """"user:NAME" or "team:NAME"; empty means any approver of the tenant."""
    deadline_ms: int | None = None


@dataclass
class Suspend:
    """Returned by an action to wait: this instance goes away; the first wake calls the same function again with `context.resumed`."""

    state: Any = None
    signals: list[str] = field(default_factory=list)
    wake_after_ms: int | None = None
    approval: Approval | None = None


def dumps(value: Any, what: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_default)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{what} is not JSON: {error}") from None


def _default(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"a value of type {type(value).__name__} is not JSON")
