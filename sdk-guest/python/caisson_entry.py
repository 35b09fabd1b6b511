"""The component's entry point: the one export of the interface, over the plugin's functions. `caisson_actions` is written by the build."""

import plugin
from caisson import _step
from caisson_actions import ACTIONS
from wit_world import exports
from wit_world.imports import types

for name in ACTIONS:
    _step.action(plugin, name)


class Executor(exports.Executor):
    def execute(self, call: types.Invocation) -> types.Outcome:
        return _step.enter(plugin, call)
