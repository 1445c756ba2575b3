"""Every module of the package, loaded.

A run of pytest within a test forgets the modules that it was the first to load. What has been defined in one
that is forgotten cannot look up its own names any more, in whatever test comes next.
"""

from __future__ import annotations

import importlib
import pkgutil

import testpress_async

for module in pkgutil.walk_packages(testpress_async.__path__, "testpress_async."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
