"""The program that a worker process runs: `python -m trainwright.execution.worker MODULE:FUNCTION`.

It takes jobs as lines of JSON on its standard input and answers with lines of JSON on what was its standard output; nothing is
pickled, and the program that started it is not imported again. Its end is that of its standard input: where the parent dies, by
a kill too, no worker is left behind.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import sys
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any, TextIO

from trainwright.execution.jobs import Call, answer


def main(where: str) -> None:
    """Work off jobs until the standard input ends. where: `module:function`, called with (argument, send, stop_asked)."""
    answers = _own_output()
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    stopped: set[int] = set()  # keys of jobs
    threading.Thread(target=_listen, args=(jobs, stopped), daemon=True).start()
    module, _, name = where.partition(":")
    call: Call = getattr(importlib.import_module(module), name)
    _write(answers, {"kind": "ready"})
    while True:
        job = jobs.get()
        _write(
            answers,
            answer(
                call,
                job["argument"],
                lambda event: _write_event(answers, event),
                partial(stopped.__contains__, job["key"]),
            ),
        )


def _own_output() -> TextIO:
    """The standard output for answers alone: what else is printed goes where errors go."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _listen(jobs: queue.SimpleQueue[dict[str, Any]], stopped: set[int]) -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if message["kind"] == "stop":
            stopped.add(message["key"])
        else:
            jobs.put(message)
    os._exit(0)  # the parent is gone, or wants no more; what matters is on the disk at any time


def _write_event(answers: TextIO, event: Mapping[str, Any]) -> None:
    _write(answers, {"kind": "event", "value": event})


def _write(answers: TextIO, message: Mapping[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
