"""The command line as a whole: all commands, and what their failures become."""

import sys
from collections.abc import Sequence
from contextlib import suppress

import typer
import typer.completion

from mctl import connection
from mctl.commands import auth, describe, get, rollout, token
from mctl.commands.changes import apply, delete, install, uninstall
from mctl.commands.completion import completion
from mctl.commands.drain import drain
from mctl.commands.login import login, logout
from mctl.commands.wait import wait
from mctl.errors import CommandError, ExitCode
from mctl.invocation import DEFAULT_REQUEST_TIMEOUT, RootTimeout
from service.output import complain
from service.wording import clean, plain

_EXIT_CODES = """Exit codes: 0 done; 1 the server refused or the operation failed; 2 wrong command line,
field or manifest; 3 not found; 4 timed out; 5 server unreachable; 6 done in part; 7 the server does not
know who you are; 8 you may not do that; 130 interrupted; 141 the reader of the output went away."""

app = typer.Typer(
    name="mctl",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
@connection.explained
def root(request_timeout: RootTimeout = DEFAULT_REQUEST_TIMEOUT, **_options: str) -> None:
    """Operate Koupleless bases (VNodes) and the modules on them."""


@app.command()
def version() -> None:
    """Print the version of mctl."""
    # It takes long to load, and no other command needs it.
    from service.process import software_version

    typer.echo(f"mctl {software_version()}")


# add_completion would add --install-completion with scripts that split host:port; only its shells are wanted.
typer.completion.get_completion_inspect_parameters()

app.add_typer(get.app, name="get")
app.add_typer(describe.app, name="describe")
app.add_typer(rollout.app, name="rollout")
app.add_typer(auth.app, name="auth")
app.add_typer(token.app, name="token")
for _command in (install, uninstall, apply, delete, wait, drain, get.events, get.baseline, login, logout, completion):
    app.command()(_command)


def run(argv: Sequence[str] | None = None) -> int:
    """Run a command line, that of the process when not given, and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # of a text file, not of others
    try:
        code = app(args=argv, prog_name="mctl", standalone_mode=False)
    except typer.TyperException as error:
        message = error.format_message()
        if "\n" in message:  # the help itself, for a command line without a command
            complain(message)
            return ExitCode.USAGE
        return _failed([f"{plain(message).rstrip('.')} (see mctl --help)"], ExitCode(error.exit_code))
    except CommandError as error:
        return _failed(error.lines, error.exit_code)
    except typer.Abort:
        return ExitCode.INTERRUPTED
    return code if isinstance(code, int) else ExitCode.DONE


def _failed(lines: Sequence[str], code: ExitCode) -> int:
    for line in lines:
        complain(f"mctl: {clean(line)}")
    return code
