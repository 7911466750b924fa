"""The command line: parses, calls a workflow, prints. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from trainwright.cli import (
    data,
    diagnose,
    explain,
    export,
    improve,
    lr,
    recipes,
    report,
    reproduce,
    runs,
    slices,
    training,
    tune,
)
from trainwright.errors import OutOfResourcesError, TrainwrightError, UsageError
from trainwright.execution.place import place_told

INTERRUPTED, TERMINATED = 130, 143
SHARED = ("train", "resume")  # commands whose work several processes share


class _Interrupted(TrainwrightError):
    exit_code = INTERRUPTED
    kind = "interrupted"


class _Terminated(TrainwrightError):
    exit_code = TERMINATED
    kind = "interrupted"


class _Commands(TyperGroup):
    """typer would turn Ctrl-C into an exit code without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _Interrupted("interrupted.") from error


app = typer.Typer(
    name="trainwright",
    cls=_Commands,
    help="The training phase of a machine-learning project: trains, judges with error bars, records.",
    epilog="Examples:\n\n  trainwright inspect photos/\n\n  trainwright train photos/ --epochs 20\n\n  trainwright runs list",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _version(show: bool) -> None:
    if show:
        from trainwright import __version__

        typer.echo(f"trainwright {__version__}")
        raise typer.Exit


@app.callback()
def top(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    command = context.invoked_subcommand
    if place_told() is not None and command not in SHARED:
        raise UsageError(
            f"torchrun started this, and {command} does not share its work.",
            where="torchrun",
            cure=f"Use it with {' or '.join(SHARED)}; start all else by itself.",
        )


for module in (data, lr, training, improve, tune, diagnose, slices, explain, report, export, reproduce, runs, recipes):
    module.add_to(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code. Errors go to stderr as text, and to stdout as JSON under --json."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "passive"
    )  # spinning threads make small steps many times slower on shared cores
    try:
        code = app(arguments, prog_name="trainwright", standalone_mode=False)
        sys.stdout.flush()  # here, where a reader that has gone is expected
        return code if isinstance(code, int) else 0
    except TyperException as error:
        return _usage(error, arguments)
    except TrainwrightError as error:
        return _fail(error, arguments)
    except MemoryError:
        return _fail(OutOfResourcesError("no memory left.", cure="Use a smaller batch_size or image size."), arguments)
    except SystemExit as error:
        if error.code != TERMINATED:
            raise
        return _fail(_Terminated("terminated."), arguments)
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
            )  # the reader has gone: nothing left to flush to
        return 1
    except OSError as error:
        return _fail(_from_system(error), arguments)
    except (KeyboardInterrupt, typer.Abort):
        return _fail(_Interrupted("interrupted."), arguments)


def _usage(error: Any, arguments: Sequence[str]) -> int:
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(message)
        return UsageError.exit_code
    command = context.command_path if context is not None else "trainwright"
    return _fail(UsageError(message, cure=f"See '{command} --help'."), arguments)


def _fail(error: TrainwrightError, arguments: Sequence[str]) -> int:
    reporters = sys.modules.get("trainwright.cli.reporters")
    if reporters is not None:
        reporters.end_bars()
    print(f"error: {error}", file=sys.stderr)
    if "--json" in arguments:
        fields = {"kind": error.kind, "message": error.message, "where": error.where, "cure": error.cure}
        print(json.dumps({"schema": "trainwright.error/1", **fields}))
    return error.exit_code


def _from_system(error: OSError) -> TrainwrightError:
    where = str(error.filename or "")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutOfResourcesError("no space left on the disk.", where=where, cure="Free some space, then resume.")
    return TrainwrightError(f"{error.strerror or error}.", where=where, cure="Check the path and its permissions.")


def run() -> None:
    """The `trainwright` program."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # not the silent end of a signal
    sys.exit(main())
