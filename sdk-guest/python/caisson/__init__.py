"""What a plugin in Python sees of Caisson.

A plugin is a module `plugin` with a function for each action of caisson-plugin.toml: it gets the input and the context, and what it
returns is the step's result (JSON, or dataclasses). To fail, raise `Failure`; to wait, return `Suspend`.

The plugin's modules are imported once, when the component is built, and every step starts from what they then held. What is imported
inside a function is not there when the step runs: import at the top.
"""

from ._capabilities import Response, artifacts, assets, events, http, kv, log, model, progress, secrets, tools
from ._preload import PRELOADED as _PRELOADED
from ._values import Approval, CapabilityError, Context, Failure, Resumed, Suspend, Wake

__all__ = [
    "Approval",
    "CapabilityError",
    "Context",
    "Failure",
    "Resumed",
    "Response",
    "Suspend",
    "Wake",
    "artifacts",
    "assets",
    "events",
    "http",
    "kv",
    "log",
    "model",
    "progress",
    "secrets",
    "tools",
]

