"""A command from its words to its result: what every verb does in the same way.

A command is a verb of `engine.runs`, the options that its help lists (`options.Group`), and what is its own:

    >>> @takes(OPTIONS)
    ... def command(model: ModelArgument, images: ImagesArgument, **words: Any) -> None:
    ...     from ..engine.runs import activations
    ...
    ...     Call(model, words, "activations").perform(activations, images)

The words that the verb's ``run`` names go there, the others into its ``Options``. The run opens the model, after it has
refused what no model can have.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
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
    from ..engine.runs.events import ImageDone
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


class Call:
    """One command that runs.

    Args:
        model: what the command line names.
        words: its options by name; those of loading and of the ending are taken out.
        ending: of the folder that it writes to by default, ``MODEL-ending``; None writes only where ``-o`` says.

    Attributes:
        words: those of the verb.
        model: what opens the model.
        place: where to write: what ``-o`` says, or the folder by default.
        as_json: print one JSON object.
        quiet: say nothing on the way.

    Raises:
        UsageError: no such model.
    """

    def __init__(self, model: str, words: dict[str, Any], ending: str | None = None) -> None:
        from ..models.load import name_of

        loading = {name: words.pop(name) for name in LOADING}
        self.model = opener(model, words.get("layer"), **loading)
        out = words.pop("out", None)
        if out == "":  # which Python takes for the folder that the command runs in
            raise UsageError("--out '' names no place; leave it out, or write . for this folder")
        if out is None and ending is not None:
            out = clean(f"{name_of(model)}-{ending}")
        self.place = out if out is None or "://" in out else Path(out)
        self.as_json: bool = words.pop("as_json")
        self.quiet: bool = words.pop("quiet")
        self.words = words | {name: dict(words[name] or ()) for name in {"tuning", "settings"} & words.keys()}

    def perform(self, verb: Any, *inputs: Any, done: Callable[[ImageDone], None] | None = None, **more: Any) -> None:
        """Makes the result of a verb, and prints it.

        Args:
            verb: a module of `engine.runs`.
            *inputs: what its ``run`` takes beside the model, its pictures for instance.
            done: called with every finished picture.
            **more: further arguments of ``run``.
        """
        named = inspect.signature(verb.run).parameters
        own = {name: word for name, word in self.words.items() if name in named}
        options = verb.Options(**{name: word for name, word in self.words.items() if name not in own})
        said = {"command": command_line()} if "command" in named else {}
        with drawn(self.quiet, live=bool(self.words.get("live")), done=done) as on_event:
            more = {"folder": self.place, "on_event": on_event, **said, **own, **more}
            result = verb.run(self.model, *inputs, options=options, **more)
        finish(result, self.as_json, self.quiet)


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
