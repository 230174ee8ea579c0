"""The ``deploykit`` command: puts the verbs together and turns errors into messages and exit codes.

Exit codes: 0 done · 1 something to mend, said in one message · 2 wrong usage · 3 a proof failed or slower than
allowed · 4 nothing meets the budget · 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import Final

import typer

from deploykit.cli import (
    compare,
    demo,
    export,
    harden,
    inspect,
    methods,
    plugin,
    plugins,
    profile,
    report,
    runtimes,
    select,
    serve,
    train,
    verify,
)
from deploykit.cli.plugin_verbs import add_plugin_verbs
from deploykit.errors import DeploykitError, MissingExtraError

_EPILOG: Final = (
    "Exit codes: 0 done, 1 something to mend, 2 wrong usage, 3 a proof failed or slower than allowed, "
    "4 nothing meets the budget, 130 interrupted."
)
_EXTRA_ARGUMENTS: Final = {"allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(
    name="deploykit",
    help="Carry a model from its trainable relaxation to a proven, measured, served hard form.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("methods")(methods.methods)
app.command("plugins")(plugins.plugins)
app.command("runtimes")(runtimes.runtimes)
app.add_typer(plugin.app, name="plugin")
app.command("train", context_settings=_EXTRA_ARGUMENTS)(train.train)
app.command("harden")(harden.harden)
app.command("export")(export.export)
app.command("verify")(verify.verify)
app.command("profile")(profile.profile)
app.command("select")(select.select)
app.command("serve")(serve.serve)
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("inspect")(inspect.inspect)
app.command("demo")(demo.demo)


def run() -> None:
    """Run the command line and leave the process with its exit code."""
    try:
        add_plugin_verbs(app)
        app()
    except DeploykitError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output (head, less) has left; that is no fault.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if os.environ.get("DEPLOYKIT_TRACEBACK"):
            raise
        if isinstance(error, ImportError) and (missing := MissingExtraError.from_import(error)):
            print(f"error: {missing}", file=sys.stderr)
            sys.exit(missing.exit_code)
        print(f"error: {type(error).__name__}: {error}\nThis is a fault of deploykit or of a plugin; "
              "set DEPLOYKIT_TRACEBACK=1 to see where.", file=sys.stderr)  # fmt: skip
        sys.exit(1)
