"""Modules that the standard library imports inside functions: there is nothing to import them from when a step runs."""

import importlib

PRELOADED = [
    importlib.import_module(name)
    for name in (
        "_pylong",  # long integers as text
        "_strptime",  # datetime.strptime
        "bisect",
        "calendar",
        "copy",
        "encodings.ascii",
        "encodings.cp1252",
        "encodings.idna",
        "encodings.latin_1",
        "encodings.utf_16",
        "encodings.utf_8_sig",
        "heapq",  # Counter.most_common
        "linecache",
        "locale",
        "traceback",
    )
]
