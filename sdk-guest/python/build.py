"""Makes the component: src/plugin.py → .caisson/component.wasm.

`caisson plugin build` has written `.caisson/wit` (the world of the manifest) and `.caisson/python` (this folder) and runs this with the
Python of `.venv`, where requirements.txt is installed:

    .venv/bin/python .caisson/python/build.py
"""

import os
import re
import subprocess
import sys
from pathlib import Path

SDK = Path(__file__).resolve().parent
WORK = SDK.parent
ROOT = WORK.parent


def main() -> int:
    if not (ROOT / "src" / "plugin.py").exists():
        print("there is no src/plugin.py: it has a function for each action of caisson-plugin.toml", file=sys.stderr)
        return 1
    tool = Path(sys.executable).with_name("componentize-py.exe" if os.name == "nt" else "componentize-py")
    if not tool.exists():
        print("componentize-py is not installed: run `pip install -r requirements.txt` in .venv", file=sys.stderr)
        return 1
    (SDK / "caisson_actions.py").write_text(f"ACTIONS = {actions()!r}\n")
    # What the plugin imports is found beside this Python's own packages, and nowhere else on this machine.
    environment = {**os.environ, "VIRTUAL_ENV": sys.prefix, "RUST_BACKTRACE": "0"}
    # Not --stub-wasi: with it time.time() traps, and every step would get the random numbers of the build.
    command = [tool, "--quiet", "--wit-path", WORK / "wit", "--world", "plugin", "componentize", "caisson_entry"]
    command += ["--python-path", ROOT / "src", "--python-path", SDK, "--output", WORK / "component.wasm"]
    built = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    if built.returncode != 0:
        print(told(built.stderr), file=sys.stderr)
    return built.returncode


def actions() -> list[str]:
    """The actions of the manifest: the component looks for their functions while it is built, so that a forgotten one is an error now."""
    tables = re.split(r"(?m)^\s*\[\[\s*actions\s*\]\].*$", (ROOT / "caisson-plugin.toml").read_text("utf-8"))[1:]
    names = (re.search(r"""(?m)^\s*name\s*=\s*["']([^"']+)["']""", table) for table in tables)
    return [name[1] for name in names if name]


def told(error: str) -> str:
    """The traceback of the plugin's own modules, without the tool's: it sees `src` as /0 and this folder as /1."""
    _, found, trace = error.partition("AssertionError: Traceback (most recent call last):\n")
    if not found:
        return error
    lines, own = [], True
    for line in trace.partition("\n\nCaused by:")[0].rstrip().splitlines():
        if line.startswith('  File "'):
            own = not line.startswith('  File "/1/')
        elif not line.startswith(" "):
            own = True
        if own:
            lines.append(line.replace('File "/0/', 'File "src/'))
    return "\n".join(["the plugin's modules do not start (they are imported once, now, without the host):", *lines])


if __name__ == "__main__":
    sys.exit(main())
