"""Which process wrote something down, and whether it is still there. A recycled process id is not taken for it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import Any

SAME_START_SECONDS = 2.0  # psutil derives the start from the boot time, which moves by about a second with the clock


def this_process() -> dict[str, Any]:
    """What identifies the running process: pid, process_started (epoch seconds), host."""
    import psutil

    return {"pid": os.getpid(), "process_started": psutil.Process().create_time(), "host": platform.node()}


def is_gone(mark: Mapping[str, Any]) -> bool:
    """Whether the process that `mark` identifies has ended. False where that cannot be known: on another host."""
    import psutil

    if mark.get("host") != platform.node() or not isinstance(mark.get("pid"), int):
        return False
    try:
        process = psutil.Process(mark["pid"])
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        return abs(process.create_time() - float(mark.get("process_started") or 0.0)) > SAME_START_SECONDS
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False
