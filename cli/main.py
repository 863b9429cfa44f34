"""``convscope``: wires the commands, and turns every ending into one line and an exit code.

Nothing heavy is imported here or at the top of any command file, so that ``--help`` answers at once. Exit
codes: 0 done, 1 failed or "different", 2 wrong use, 3 input refused, 4 partly done, 130 interrupted.
"""

from __future__ import annotations

import inspect
import logging
import os
import re
import shutil
import signal
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from ..errors import ConvscopeError
from .output import clean, in_flags, running, say, typed
from .streams import settle

_NARROW = 76  # characters
_LONGEST_WORD = 300  # characters; some systems' names of files have up to 255
_LOOK, _SEE, _WHY, _COMPARE, _SETUP = "Look", "See", "Explain", "Compare", "Set up"

# name: (panel of the help, example). The order is that of the help.
_COMMANDS: dict[str, tuple[str, str]] = {
    "info": (_LOOK, "convscope info efficientnet-lite0"),
    "verify": (_LOOK, "convscope verify vgg16.keras --batch 3"),
    "weights": (_LOOK, "convscope weights lenet --layer conv1 -o weights/"),
    "filters": (_SEE, "convscope filters efficientnet-lite0 --layer 20 --units 0-63 -o filters/"),
    "maximize": (_SEE, 'convscope maximize efficientnet-lite0 --class "bald eagle" -o eagle/'),
    "accent": (_SEE, 'convscope accent efficientnet-lite0 cat.jpg --class "tiger cat" -o accent/'),
    "dream": (_SEE, "convscope dream efficientnet-lite0 cat.jpg --layer 40 -o dream/"),
    "invert": (_SEE, "convscope invert efficientnet-lite0 cat.jpg --layer 12 -o inverted/"),
    "activations": (_SEE, "convscope activations vgg16.onnx cat.jpg --layer 'block1*,block5*' -o maps/"),
    "top": (_SEE, "convscope top efficientnet-lite0 photos/ --layer 30 -k 9 -o top/"),
    "stats": (_SEE, "convscope stats efficientnet-lite0 photos/ --json"),
    "atlas": (_SEE, "convscope atlas model.onnx photos/ -o atlas/"),
    "predict": (_WHY, "convscope predict efficientnet-lite0 cat.jpg --top 3"),
    "explain": (_WHY, "convscope explain efficientnet-lite0 cat.jpg --method gradcam,layercam -o why/"),
    "export": (_WHY, "convscope export efficientnet-lite0 -o explained.onnx --method gradcam"),
    "attack": (_WHY, "convscope attack efficientnet-lite0 cat.jpg --pixels 1"),
    "compare": (_COMPARE, "convscope compare model.keras model.onnx --max-rel 1e-4"),
    "models": (_SETUP, "convscope models list"),
    "doctor": (_SETUP, "convscope doctor"),
}


def build() -> typer.Typer:
    """The application with every command registered."""
    app = typer.Typer(
        name="convscope",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Start here:  convscope info MODEL  ·  MODEL is a file or a name from  convscope models list",
    )
    app.callback()(_root)
    for name, (panel, example) in _COMMANDS.items():
        _register(app, name, panel, example)
    return app


def _application() -> Any:
    application = typer.main.get_command(build())
    is_narrow = shutil.get_terminal_size().columns < _NARROW
    for name, command in application.commands.items():  # type: ignore[attr-defined]
        if is_narrow and not hasattr(command, "commands"):  # help in columns would cut the flags' names
            command.rich_markup_mode, command.epilog = None, f"Example:  {_COMMANDS[name][1]}"
        else:
            _take_literally(command)
    return application


def _take_literally(command: Any) -> None:
    """Help texts are text: without this, rich takes ``[@ROW,COLUMN]`` for markup and swallows it."""
    command.help = _escaped(command.help)
    for parameter in command.params:
        parameter.help = _escaped(getattr(parameter, "help", None))
    for inner in getattr(command, "commands", {}).values():
        _take_literally(inner)


def _escaped(text: str | None) -> str | None:
    return text if text is None else re.sub(r"\[(?=[a-z#/@])", r"\[", text)


def main() -> None:
    """The console script."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what is done is kept, nothing half is left
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        sys.unraisablehook = _again_if_interrupt
    settle(everything=_split(sys.argv[1:])[1])
    sys.exit(run(sys.argv[1:]))


def _again_if_interrupt(lost: Any) -> None:
    """An interrupt raised where no exception can leave, in a destructor say, comes once more a moment later."""
    if lost.exc_type is KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
    else:
        sys.__unraisablehook__(lost)


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit code; no exception leaves it.

    ``--debug`` is taken anywhere before a ``--`` and shows the traceback of whatever ends the command.
    """
    rest, debug = _split(arguments)
    if not debug:  # what libraries think of a file is no message of ours
        warnings.simplefilter("ignore")
        logging.lastResort = logging.NullHandler()
    with running(arguments):
        return _ended(rest, debug)


def _split(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The command line without ``--debug``, and whether it was there."""
    cut = list(arguments).index("--") if "--" in arguments else len(arguments)
    rest = [a for a in arguments[:cut] if a != "--debug"] + list(arguments[cut:])
    return rest, "--debug" in arguments[:cut]


def _ended(arguments: Sequence[str], debug: bool) -> int:
    try:
        code = _application()(arguments, prog_name="convscope", standalone_mode=False)
        code = code if isinstance(code, int) else 0
        if code == 130:
            say("interrupted")
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader (``| head``) is gone; without this Python would complain when it flushes stdout at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, typer.Abort):
        say("interrupted")
        return 130
    except BaseException as exc:
        if debug and not isinstance(exc, SystemExit | typer.TyperException):
            import traceback

            traceback.print_exc()
        return _explain(exc)


def _explain(exc: BaseException) -> int:
    """Says in one line what went wrong; returns the exit code."""
    if isinstance(exc, SystemExit):
        return exc.code if isinstance(exc.code, int) else 1
    if isinstance(exc, ConvscopeError):
        say(f"error: {_short(in_flags(str(exc)))}")
        return exc.exit_code
    if isinstance(exc, typer.TyperException):
        context = getattr(exc, "ctx", None)
        place = context.command_path if context is not None else "convscope"
        message = _with_value(exc).rstrip(".")
        if message:  # none where a command line ends early, and its help was shown
            say(f"error: {_short(message)}; see: {place} --help")
        return exc.exit_code
    if _is_out_of_memory(exc):
        say("error: out of memory; try a smaller --size, --steps or --batch")
        return 1
    if isinstance(exc, OSError) and exc.filename is not None:  # the system has refused something: no fault of ours
        say(f"error: {clean(os.fsdecode(exc.filename))[:200]}: {clean(exc.strerror or str(exc))}")
        return 1
    text = clean(f"{type(exc).__name__}: {exc}")
    if len(text) > 240:
        text = text[:240] + "…"
    say(f"error: convscope has a bug: {text}; please report it with the output of the same command and --debug")
    return 1


def _short(message: str) -> str:
    """A message without the middle of its longest words: the path of a file may have thousands of characters."""
    return re.sub(rf"\S{{{_LONGEST_WORD + 1},}}", lambda word: f"{word[0][:100]}…{word[0][-50:]}", message)


def _with_value(exc: Any) -> str:
    """What typer says of a command line; of a wrong number also which one, which it leaves out."""
    flags: list[str] = getattr(getattr(exc, "param", None), "opts", [])
    value = typed(flags) if isinstance(exc, typer.BadParameter) else None
    return str(exc.format_message()) if value is None else f"{flags[0]} '{value[:40]}': {exc.message}"


def _is_out_of_memory(exc: BaseException) -> bool:
    if "torch" not in sys.modules:  # no one asked it for memory, and importing it takes seconds
        return isinstance(exc, MemoryError)
    from ..engine.executors.memory import out_of_memory

    return out_of_memory(exc)


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """A microscope for any convolutional network: ONNX, Keras or Torch in, pictures and proof out."""


def _version(wanted: bool) -> None:
    if wanted:
        root = import_module(__package__.rpartition(".")[0])  # mypy knows the root by no name: no "from .. import"
        print(f"convscope {root.__version__}")
        raise typer.Exit


def _register(app: typer.Typer, name: str, panel: str, example: str) -> None:
    module: Any = import_module(f".{name}", __package__)
    epilog = f"Example:  [bold]{_escaped(example)}[/bold]"
    if hasattr(module, "app"):
        app.add_typer(module.app, name=name, rich_help_panel=panel, epilog=epilog)
        return
    paragraphs = inspect.cleandoc(module.command.__doc__ or "").split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)  # else lines would break twice
    app.command(name, help=text, epilog=epilog, rich_help_panel=panel)(module.command)


if __name__ == "__main__":
    main()
