"""A command from its words to its result: what every verb does in the same way.

A command is a verb of `engine.runs`, the options that its help lists (`options.Group`), and what is its own:

    >>> @takes(OPTIONS)
    ... def command(model: ModelArgument, images: ImagesArgument, **words: Any) -> None:
    ...     from ..engine.runs import activations
    ...
    ...     perform(activations, model, words, images, ending="activations")

The words that the verb's ``run`` names go there, the others into its ``Options``. The run opens the model, after it has
refused what no model can have.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import PartlyDone, UsageError
from .loading import LOADING, opener
from .options import DEVICE, JSON, OUT, QUIET, Group
from .output import clean, command_line, emit, emit_json, say, understand
from .progress import drawn
from .tables import show

if TYPE_CHECKING:
    from ..engine.runs.result import Result

ENDING: Group = {"out": OUT, "device": DEVICE, "as_json": JSON, "quiet": QUIET}


def takes(*groups: Group, ending: Group = ENDING) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the options of ``groups``, of ``ending`` and of loading a model, in place of its ``**words``."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        declared = {name: entry for group in (*groups, ending, LOADING) for name, entry in group.items()}
        declared["context"] = typer.Context, inspect.Parameter.empty
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for name, (kind, default) in declared.items()
        ]

        @functools.wraps(command)
        def wrapped(*args: Any, context: typer.Context, **kwargs: Any) -> None:
            understand(context.command.params)
            command(*args, **kwargs)

        wrapped.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
        wrapped.__annotations__ = {p.name: p.annotation for p in (*own, *added)}
        return wrapped

    return decorate


def perform(
    verb: Any,
    model: str,
    words: Mapping[str, Any],
    *inputs: Any,
    ending: str | None = None,
    listed: bool = False,
    **more: Any,
) -> None:
    """Makes the result of a verb on one model, and prints it.

    Args:
        verb: a module of `engine.runs`.
        model: what the command line names.
        words: the command's options by name.
        *inputs: what the verb's ``run`` takes beside the model, its pictures for instance.
        ending: of the folder that it writes to by default, ``MODEL-ending``; None writes only where ``-o`` says.
        listed: whether the finished pictures' lines are the result; else they are messages.
        **more: further words of the verb.

    Raises:
        UsageError: no such model, and what the run refuses.
    """
    own = {name: word for name, word in words.items() if name not in (*LOADING, "out", "as_json", "quiet")}
    own |= {name: dict(own[name] or ()) for name in own.keys() & {"tuning", "settings"}}
    own |= {"folder": _place(words.get("out"), model, ending), "command": command_line(), **more}
    named = inspect.signature(verb.run).parameters
    of_run = {name: word for name, word in own.items() if name in named}
    options = {name: word for name, word in own.items() if name not in named and name != "command"}

    def picture_done(line: str) -> None:
        if not listed:
            say(line, words["quiet"])
        elif not words["as_json"]:
            emit(line)

    with drawn(words["quiet"], live=bool(words.get("live")), show=picture_done) as on_event:
        opens = opener(model, words.get("layer"), **{name: words[name] for name in LOADING})
        result = verb.run(opens, *inputs, options=verb.Options(**options), on_event=on_event, **of_run)
    finish(result, words["as_json"], words["quiet"])


def _place(out: str | None, model: str, ending: str | None) -> Path | str | None:
    """Where to write: a folder, or an address."""
    from ..models.load import name_of

    if out == "":  # which Python takes for the folder that the command runs in
        raise UsageError("--out '' names no place; leave it out, or write . for this folder")
    if out is None:
        return None if ending is None else Path(clean(f"{name_of(model)}-{ending}"))
    if "://" not in out:
        return Path(out)
    if ending != "atlas":  # which keeps whole files by their names alone
        raise UsageError(f"--out '{out[:200]}' is an address, and only convscope atlas writes to one; name a folder")
    return out


def finish(result: Result, as_json: bool, quiet: bool = False) -> None:
    """Prints the JSON object, or what the result says and the paths of what it wrote.

    Raises:
        PartlyDone: some of it could not be done. Exit: the answer is no, which is exit code 1.
    """
    if as_json:
        emit_json(result.to_json())
    else:
        if result.table is not None:
            show(result.table)
            say(result.table.legend, quiet or not result.table.legend)
        for line in (*result.lines, *result.paths):
            emit(line)
    if result.unfinished:
        raise PartlyDone(result.unfinished)
    if not result.ok:
        raise typer.Exit(1)
