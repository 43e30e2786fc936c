"""Entry point: the group of commands, and what becomes of errors.

Commands are imported when they are used, and import what they need when they run: ``castore --help`` and a comparison
of equal runs take a tenth of a second.
"""

from __future__ import annotations

import gc
import io
import os
import sys
from contextlib import suppress
from importlib import import_module

# Importing makes ten thousands of objects that all stay. Looking for garbage among them is a tenth of the start-up.
gc.set_threshold(100_000, 20, 50)
# numpy's OpenBLAS starts a thread a processor, for algebra that no command does.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import click  # noqa: E402

from castore.errors import BackendError, CastoreError, ConflictError, did_you_mean  # noqa: E402
from castore.version import __version__  # noqa: E402
from castore_cli.context import State  # noqa: E402
from castore_cli.formatting import printable, visible  # noqa: E402
from castore_cli.interrupt import exit_code, interruptible, raise_on_interrupt, what_came  # noqa: E402

COMMANDS = {
    "tokenize": "Turn conversations into a dataset of the repository.",
    "templates": "List the chat templates that have a name.",
    "import": "Make a dataset of an output directory of open-instruct.",
    "diff": "Compare two datasets and show where they part.",
    "lock": "Print what a dataset is, to be committed and compared with.",
    "export": "Write a dataset as files for a trainer.",
    "check": "Tell what a trainer will make of an export, before training.",
    "ls": "List names and what they mean.",
    "show": "Show what a dataset is and how it came to be.",
    "stats": "Show lengths, trained shares and packing.",
    "log": "Show what a name has meant, newest first.",
    "tag": "Give a dataset another name.",
    "rm": "Remove a name; its log and the data stay.",
    "cat": "Show samples: ids, labels, text.",
    "copy": "Copy a dataset to another repository.",
    "sign": "Vouch with a key for what a name means.",
    "verify": "Tell whether a trusted key vouches for a name.",
    "du": "Tell what names take, and what removing them would free.",
    "gc": "Remove what nothing uses, safely beside writers.",
    "fsck": "Check everything that is stored, and repair it from a copy.",
    "check-backend": "Tell whether a store does what a repository needs.",
}
"""Commands, each in the module of its name, with their lines in the help."""

EXIT_TROUBLE, EXIT_CONFLICT = 2, 3


class Commands(click.Group):
    """A group that imports a command when it is used, and lists them without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        from castore_cli.parameters import RepositoryOption

        # "import" cannot be the name of a function.
        name = "import_" if cmd_name == "import" else cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"castore_cli.{name}"), name)
        if not any(isinstance(parameter, RepositoryOption) for parameter in command.params):
            command.params.append(RepositoryOption())
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"no such command {name!r}{did_you_mean(name, COMMANDS, most=3)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return interruptible(super().invoke, ctx)
        except KeyboardInterrupt:  # click would forget which command it was
            raise self._interrupted(ctx) from None
        except RuntimeError as error:
            if not isinstance(error.__cause__, KeyboardInterrupt):
                raise
            raise self._interrupted(ctx) from None  # Python 3.11 makes this of one while a class is made
        except BackendError as error:
            if not error.full:
                raise
            from castore_cli.kept import after_full_disk

            said = after_full_disk(ctx.invoked_subcommand, str(error))
            raise click.exceptions.Exit(_fail(said, EXIT_TROUBLE)) from None
        except BrokenPipeError:  # click would exit with 1, which says "different"
            _silence_stdout()
            raise click.exceptions.Exit(EXIT_TROUBLE) from None

    @staticmethod
    def _interrupted(ctx: click.Context) -> click.exceptions.Exit:
        from castore_cli.kept import after_interrupt

        return click.exceptions.Exit(_fail(after_interrupt(ctx.invoked_subcommand, what_came()), exit_code()))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--repo",
    metavar="URL",
    envvar="CASTORE_REPO",
    help="The repository: a folder or URL. Default: CASTORE_REPO, else a folder under your data directory.",
)
@click.version_option(__version__, prog_name="castore")
@click.pass_context
def castore(ctx: click.Context, repo: str | None) -> None:
    """A content-addressed store for tokenized training data.

    An ADDRESS is a name, name@{2} for its second value back, the beginning of a digest, or URL#name for another
    repository.

    Exit codes: 0 done or equal, 1 different, 2 trouble, 3 a name moved meanwhile.
    """
    raise_on_interrupt()  # the command is imported by now
    ctx.obj = State(repo)


def main() -> None:
    """Run the command line; every error is one line on stderr."""
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names of files need not be text, nor need a terminal have every sign that is printed.
            stream.reconfigure(errors="backslashreplace")
    try:
        status = castore.main(prog_name="castore", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        status = _fail(what_came(), exit_code())
    except click.UsageError as error:
        status = _misused(error)
    except click.ClickException as error:
        status = _fail(error.format_message(), EXIT_TROUBLE)
    except ConflictError as error:
        status = _fail(str(error), EXIT_CONFLICT)
    except CastoreError as error:
        status = _fail(str(error), EXIT_TROUBLE)
    except MemoryError:
        status = _fail("out of memory", EXIT_TROUBLE)
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename or repr('')}: "
        status = _fail(f"{place}{error.strerror or error}", EXIT_TROUBLE)
    except Exception as error:  # noqa: BLE001 - Python would exit with 1, which says "different"
        status = _fail(_bug(error), EXIT_TROUBLE)
    status = _said(status if isinstance(status, int) else 0)
    gc.freeze()  # Python looks for garbage once more at its end, another tenth
    sys.exit(status)


def _open_streams() -> None:
    """Open what was closed by whoever started this (``2>&-``): else the next file opened would take its number.

    What a library then writes to "stderr" would go into that file, which may be one of a repository.
    """
    import os

    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with suppress(OSError):
                handle = os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
                if handle != number:
                    os.dup2(handle, number)
                    os.close(handle)
                stream = open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False)  # noqa: SIM115
                setattr(sys, name, stream)


def _fail(message: str, status: int) -> int:
    with suppress(OSError):  # the terminal may be gone, and the exit code says enough
        click.echo(f"castore: {printable(message)}", err=True)  # it may quote anybody's text
    return status


def _bug(error: Exception) -> str:
    """What is said of an error that nobody foresaw: one line with its place, and how to see the whole."""
    import traceback

    if os.environ.get("CASTORE_TRACEBACK"):
        traceback.print_exception(error)
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    place = f"{os.path.basename(frame.f_code.co_filename)}:{line}"  # noqa: PTH119 - pathlib costs start-up
    what = visible(f"{type(error).__name__}: {error}"[:500])
    return f"this is a bug of castore, please report it: {what} ({place}); CASTORE_TRACEBACK=1 shows where it came from"


def _misused(error: click.UsageError) -> int:
    """A wrong command line: one line, with the command that tells more; the help where nothing was asked for."""
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # since click 8.2
        error.show()
        return EXIT_TROUBLE
    message = error.format_message().rstrip(".")
    message = message[:1].lower() + message[1:]
    return _fail(f"{message} ('{error.ctx.command_path} --help')" if error.ctx else message, EXIT_TROUBLE)


def _said(status: int) -> int:
    """The exit code when all that was printed has been written: Python would try at its end, and exit with 120."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _silence_stdout()
        if status != EXIT_TROUBLE and not isinstance(error, BrokenPipeError):  # or it was told
            _fail(error.strerror or str(error), EXIT_TROUBLE)
        return EXIT_TROUBLE
    return status


def _silence_stdout() -> None:
    """The reader of a pipe went away: nothing more can be said to it, not even when Python flushes at exit."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
