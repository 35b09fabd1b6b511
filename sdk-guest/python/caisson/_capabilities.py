"""What a plugin can ask of its host."""

from __future__ import annotations

import importlib
import json as _json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from componentize_py_types import Err
from wit_world.imports import log as _log

from ._values import CapabilityError, dumps


class _Log:
    """Log lines of the step: always granted."""

    def debug(self, message: str, **fields: Any) -> None:
        self._write(_log.Level.DEBUG, message, fields)

    def info(self, message: str, **fields: Any) -> None:
        self._write(_log.Level.INFO, message, fields)

    def warn(self, message: str, **fields: Any) -> None:
        self._write(_log.Level.WARN, message, fields)

    def error(self, message: str, **fields: Any) -> None:
        self._write(_log.Level.ERROR, message, fields)

    def _write(self, level: _log.Level, message: str, fields: dict[str, Any]) -> None:
        _log.write(level, str(message), dumps(fields, "the fields") if fields else None)


def progress(percent: int | None, message: str = "") -> None:
    """How far the step is."""
    _log.progress(None if percent is None else max(0, min(100, int(percent))), message)


@dataclass(frozen=True)
class Response:
    """What came back over HTTP."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as UTF-8 text."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON."""
        return _json.loads(self.body)

    def header(self, name: str) -> str | None:
        """A header's first value, by its name in any case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class _Http:
    """Outgoing HTTP to granted hosts. `{{secret:NAME}}` in a header's value is filled in by the host where granted."""

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes | str | None = None,
        json: Any = None,
        timeout_ms: int | None = None,
    ) -> Response:
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        if json is not None:
            body = dumps(json, "json")
            if not any(name.lower() == "content-type" for name, _ in pairs):
                pairs.append(("content-type", "application/json"))
        if isinstance(body, str):
            body = body.encode()
        host = _part("http")
        request = host.Request(method.upper(), url, pairs, body, timeout_ms)
        response = _ask(host.send, request)
        return Response(response.status, response.headers, response.body)

    def get(self, url: str, **options: Any) -> Response:
        return self.send("GET", url, **options)

    def post(self, url: str, **options: Any) -> Response:
        return self.send("POST", url, **options)


class _Secrets:
    """Named secrets."""

    def get(self, name: str) -> str:
        return _ask(_part("secrets").get, name)


class _Kv:
    """Small state, kept per tenant, plugin and workflow, as JSON."""

    def get(self, key: str, default: Any = None) -> Any:
        stored = self.get_bytes(key)
        return default if stored is None else _json.loads(stored)

    def get_bytes(self, key: str) -> bytes | None:
        return _ask(_part("kv").get, key)

    def set(self, key: str, value: Any) -> None:
        _ask(_part("kv").set, key, value if isinstance(value, bytes) else dumps(value, "the value").encode())

    def delete(self, key: str) -> None:
        _ask(_part("kv").delete, key)

    def keys(self, prefix: str = "", limit: int = 1000) -> list[str]:
        return _ask(_part("kv").keys, prefix, limit)


class _Artifacts:
    """Files that belong to the step and outlive it."""

    def put(self, name: str, data: bytes | str, mime: str | None = None) -> str:
        """Keeps a file and gives its id."""
        kind = mime or ("text/plain; charset=utf-8" if isinstance(data, str) else "application/octet-stream")
        return _ask(_part("artifacts").put, name, kind, data.encode() if isinstance(data, str) else data)

    def get(self, id: str) -> bytes:
        return _ask(_part("artifacts").get, id)


class _Events:
    """Business events."""

    def emit(self, name: str, payload: Any = None, correlation_key: str | None = None) -> None:
        _ask(_part("events").emit, name, correlation_key, dumps(payload, "the payload"))


class _Model:
    """A language model."""

    def complete(self, request: Any) -> Any:
        return _json.loads(_ask(_part("model").complete, dumps(request, "the request")))


class _Tools:
    """Tools that the operator connected, named SERVER.TOOL."""

    def list(self) -> Any:
        """Each with `name`, `description` and `parameters`."""
        return _json.loads(_ask(_part("tools").list_tools))

    def call(self, name: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """A text, or a dict where there is more than text."""
        return _json.loads(_ask(_part("tools").call, name, dumps(dict(arguments or {}), "the arguments")))


class _Assets:
    """Files of the plugin's own package."""

    def read(self, name: str) -> bytes | None:
        """None if the package has no such file."""
        interface = _INTERFACES.get("assets")
        return None if interface is None else interface.read(name)


log = _Log()
http = _Http()
secrets = _Secrets()
kv = _Kv()
artifacts = _Artifacts()
events = _Events()
model = _Model()
tools = _Tools()
assets = _Assets()


def _interfaces() -> dict[str, Any]:
    """The interfaces of this component's world: the build writes it from the manifest."""
    found = {}
    for name in ("http", "secrets", "kv", "artifacts", "events", "model", "tools", "assets"):
        try:
            found[name] = importlib.import_module(f"wit_world.imports.{name}")
        except ImportError:
            continue
    return found


_INTERFACES = _interfaces()


def _part(name: str) -> Any:
    if name in _INTERFACES:
        return _INTERFACES[name]
    message = f'{name} is not imported: add "{name}" to `capabilities` in caisson-plugin.toml'
    raise CapabilityError("CAPABILITY_NOT_ASKED", message, category="policy", retry="never")


# The host's refusals, by the name of the generated class.
_REFUSALS = {
    "Error_Denied": ("CAPABILITY_DENIED", "policy", "never"),
    "Error_NotFound": ("NOT_FOUND", "action", "default"),
    "Error_Invalid": ("INVALID_REQUEST", "validation", "default"),
    "Error_TooLarge": ("TOO_LARGE", "limit", "default"),
    "Error_Quota": ("QUOTA", "limit", "default"),
    "Error_Timeout": ("CAPABILITY_TIMEOUT", "timeout", "default"),
    "Error_Unavailable": ("UNAVAILABLE", "transient", "default"),
    "Error_Other": ("CAPABILITY_FAILED", "action", "default"),
}


def _ask(function: Any, *given: Any) -> Any:
    try:
        return function(*given)
    except Err as error:
        refusal = error.value
        code, category, retry = _REFUSALS[type(refusal).__name__]
        said = getattr(refusal, "value", None)
        if code == "TOO_LARGE":
            said = f"more than the {said} bytes that are allowed"
        raise CapabilityError(
            code, said or "the host's answer took too long", category=category, retry=retry
        ) from None
