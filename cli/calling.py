"""A command from its words to its result: what every verb does in the same way.

A command is a verb of `engine.runs`, the options that its help lists (`options.Group`), and what is its own in how the
result is shown:

    >>> @takes(OPTIONS)
    ... def command(model: ModelArgument, images: ImagesArgument, **words: Any) -> None:
    ...     from ..engine.runs import activations
    ...
    ...     Call(words, "activations").perform(activations, model, images)

The words that the verb's ``run`` names go there, the others into its ``Options``. Whatever can be refused without the
model is refused before it is opened, and a layer that it lacks before it is checked.
"""

from __future__ import annotations

import functools
import inspect
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .loading import LOADING, open_model
from .options import DEVICE, JSON, OUT, QUIET, Group
from .output import clean, command_line, emit, emit_json, partly_done, understand
from .parsing import parse_settings
from .progress import drawn

if TYPE_CHECKING:
    from ..engine.graph.graph import Graph
    from ..engine.runs.events import Event, ImageDone

ENDING: Group = {"out": OUT, "device": DEVICE, "as_json": JSON, "quiet": QUIET}


def takes(*groups: Group, ending: Group = ENDING) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the options of ``groups``, of ``ending`` and of loading a model, in place of its ``**words``."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        declared = {name: entry for group in (*groups, ending, LOADING) for name, entry in group.items()}
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for name, (kind, default) in declared.items()
        ]

        parameters = [*own, *added]

        @functools.wraps(command)
        def wrapped(*args: Any, **kwargs: Any) -> None:
            understand({p.name: flags for p in parameters if (flags := _flags(p.annotation))})
            command(*args, **kwargs)

        wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
        return wrapped

    return decorate


def _flags(kind: Any) -> tuple[str, ...]:
    """The flags that were declared for an annotated type; none for an argument."""
    declared = kind.__metadata__[0]
    words = (declared.default, *(declared.param_decls or ()))  # in an Annotated the first flag stands for the default
    return tuple(word for word in words if isinstance(word, str) and word.startswith("-"))


def written(arguments: Sequence[str], group: Group, words: Mapping[str, Any], without: Collection[str]) -> str:
    """A command line of these arguments and words, in one order however it was typed; defaults are left out.

    Args:
        arguments: the command and what stands behind it.
        group: the options.
        words: their values.
        without: options that are left out.
    """
    line = ["convscope", *arguments]
    for name, (kind, default) in group.items():
        if name in without or words[name] == default:
            continue
        flag = next((flag for flag in _flags(kind) if flag.startswith("--")), _flags(kind)[0])
        for value in words[name] if isinstance(words[name], list) else [words[name]]:
            text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
            line += [flag] if value is True else [flag, text]
    return shlex.join(line)


class Call:
    """One command that runs.

    Args:
        words: its options by name; those of loading and of the ending are taken out.
        ending: of the folder that it writes to by default, ``MODEL-ending``; None writes only where ``-o`` says.

    Attributes:
        words: those of the verb.
        loading: how the model is opened.
        place: where to write: what ``-o`` says, or the folder by default, once the model is open.
        as_json: print one JSON object.
        quiet: say nothing on the way.
        seen: how many pictures were named.
    """

    def __init__(self, words: dict[str, Any], ending: str | None = None) -> None:
        self.loading = {name: words.pop(name) for name in LOADING}
        self._ending = ending
        self.place: Any = words.pop("out", None)
        self.as_json: bool = words.pop("as_json")
        self.quiet: bool = words.pop("quiet")
        self.seen = 0
        for name in {"tuning", "settings"} & words.keys():
            words[name] = parse_settings(words[name])
        self.words = words

    def perform(self, verb: Any, model: str, pictures: Path | Sequence[Path] | None = None, **more: Any) -> None:
        """Makes the result of a verb and prints it; arguments as for `make`."""
        self.finish(self.make(verb, model, pictures, **more))

    def make(
        self,
        verb: Any,
        model: str,
        pictures: Path | Sequence[Path] | None = None,
        *,
        done: Callable[[ImageDone], None] | None = None,
        **more: Any,
    ) -> Any:
        """The result of a verb on one model.

        Args:
            verb: a module of `engine.runs`.
            model: what the command line names.
            pictures: a photograph, or pictures and folders; None where the verb takes none.
            done: called with every finished picture.
            **more: further arguments of the verb's ``run``.
        """
        own, options = self.sorted_words(verb)
        self._check_pictures(pictures)
        graph = self.open(model)
        inputs = (graph,) if pictures is None else (graph, pictures)
        return self.run(verb.run, *inputs, options=options, done=done, **own, **more)

    def sorted_words(self, verb: Any) -> tuple[dict[str, Any], Any]:
        """The words that the verb's ``run`` names, and its ``Options`` of the others.

        Raises:
            UsageError: some that no model can have.
        """
        own = {name: word for name, word in self.words.items() if name in inspect.signature(verb.run).parameters}
        options = verb.Options(**{name: word for name, word in self.words.items() if name not in own})
        if hasattr(verb, "check"):
            verb.check(**{name: own[name] for name in inspect.signature(verb.check).parameters})
        options.check()
        return own, options

    def open(self, model: str, **instead: Any) -> Graph:
        """The graph of MODEL; ``instead`` of what the loading options say. The folder is tried first.

        Raises:
            UsageError: a flag that does not fit, or ``-o`` is a file. RefusedInput: the file is hostile or broken.
        """
        from ..engine.render.artifacts import check_folder

        if isinstance(self.place, Path) or self._ending is not None:
            check_folder(self.place or Path())
        options = {"layer": self.words.get("layer"), **self.loading, **instead}
        graph = open_model(model, quiet=self.quiet, **options)
        if self.place is None and self._ending is not None:
            self.place = Path(clean(f"{graph.name}-{self._ending}"))
        return graph

    def run(
        self, run: Callable[..., Any], *inputs: Any, done: Callable[[ImageDone], None] | None = None, **more: Any
    ) -> Any:
        """The run's result; what it tells is drawn, and ``done`` is called with every finished picture."""
        from ..engine.runs.events import ImageDone

        with drawn(self.quiet, live=bool(self.words.get("live"))) as draw:

            def on_event(event: Event) -> None:
                if done is not None and isinstance(event, ImageDone):
                    done(event)
                draw(event)

            return run(*inputs, folder=self.place, command=command_line(), on_event=on_event, **more)

    def finish(self, result: Any) -> None:
        """Prints the JSON object, or what the result says and the paths of what it wrote.

        Raises:
            PartlyDone: some of the pictures could not be read.
        """
        if self.as_json:
            emit_json(result.to_json())
        else:
            for line in (*result.lines, *result.paths):
                emit(line)
        partly_done(result.failed, self.seen)

    def _check_pictures(self, pictures: Path | Sequence[Path] | None) -> None:
        """Raises where there are no pictures, or the one photograph cannot be read."""
        from ..engine.pictures.read import image_paths, read_image

        if isinstance(pictures, Path):
            read_image(pictures)
        elif pictures is not None:
            self.seen = len(image_paths(pictures))
