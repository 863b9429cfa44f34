"""A command from its words to its result: what every verb does in the same way.

A command file declares the options that go straight to its run in groups (`options.Group`), and as parameters only
those that have to be put in another form first:

    >>> @takes(OPTIONS)
    ... def command(model: ModelArgument, images: ImagesArgument, **words: Any) -> None:
    ...     call = Call(words, "activations")
    ...     options = activations.Options(**call.options)
    ...     graph = call.open(model)
    ...     call.finish(call.run(activations.run, graph, images, options))
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import UsageError
from .loading import LOADING, open_model
from .options import DEVICE, JSON, OUT, QUIET, Group, parse_settings
from .output import clean, command_line, emit_json, finish, partly_done, understand
from .progress import drawn

if TYPE_CHECKING:
    from ..engine.graph.graph import Graph
    from ..engine.runs.events import Event, ImageDone
    from ..engine.runs.result import Result

R = TypeVar("R", bound="Result")
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
            understand({p.name: flags for p in parameters if (flags := _flags(p))})
            command(*args, **kwargs)

        wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
        return wrapped

    return decorate


def _flags(parameter: inspect.Parameter) -> tuple[str, ...]:
    """The flags that were declared for a parameter; none for an argument."""
    declared = parameter.annotation.__metadata__[0]
    words = (declared.default, *(declared.param_decls or ()))  # in an Annotated the first flag stands for the default
    return tuple(word for word in words if isinstance(word, str) and word.startswith("-"))


class Call:
    """One command that runs.

    Args:
        words: its options by name.
        ending: of the folder that it writes to by default, ``MODEL-ending``; None writes only where ``-o`` says.

    Attributes:
        options: those of the run.
        loading: how the model is opened.
        place: where to write: what ``-o`` says, or the folder by default, once the model is open.
        as_json: print one JSON object.
        quiet: say nothing on the way.
    """

    def __init__(self, words: dict[str, Any], ending: str | None = None) -> None:
        self.loading = {name: words.pop(name) for name in LOADING}
        self._ending = ending
        self.place: Any = words.pop("out", None)
        self.as_json: bool = words.pop("as_json")
        self.quiet: bool = words.pop("quiet")
        for name in {"tuning", "settings"} & words.keys():
            words[name] = parse_settings(words[name])
        self.options = words
        _refuse_early(words)

    def open(self, model: str, **instead: Any) -> Graph:
        """The graph of MODEL; ``instead`` of what the loading options say. The folder is tried first.

        Raises:
            UsageError: a flag that does not fit, or ``-o`` is a file. RefusedInput: the file is hostile or broken.
        """
        from ..engine.render.artifacts import check_folder

        if isinstance(self.place, Path) or self._ending is not None:
            check_folder(self.place or Path())
        graph = open_model(model, quiet=self.quiet, **{**self.loading, **instead})
        if self.place is None and self._ending is not None:
            self.place = Path(clean(f"{graph.name}-{self._ending}"))
        return graph

    def run(
        self, run: Callable[..., R], *inputs: Any, done: Callable[[ImageDone], None] | None = None, **more: Any
    ) -> R:
        """The run's result; what it tells is drawn, and ``done`` is called with every finished picture."""
        from ..engine.runs.events import ImageDone

        with drawn(self.quiet, live=bool(self.options.get("live"))) as draw:

            def on_event(event: Event) -> None:
                if done is not None and isinstance(event, ImageDone):
                    done(event)
                draw(event)

            return run(*inputs, folder=self.place, command=command_line(), on_event=on_event, **more)

    def finish(self, result: Result, seen: int = 0) -> None:
        """Prints the JSON object, or the path of the page.

        Raises:
            PartlyDone: some of the ``seen`` pictures could not be read.
        """
        finish(result, self.as_json)
        self.end(result, seen)

    def end(self, result: Result, seen: int) -> None:
        """Raises PartlyDone where some of the ``seen`` pictures could not be read."""
        partly_done(result.failed, seen)

    def show(self, result: Result, otherwise: Callable[[], None]) -> None:
        """Prints the JSON object, or what ``otherwise`` prints."""
        if self.as_json:
            emit_json(result.to_json())
        else:
            otherwise()


def _refuse_early(words: dict[str, Any]) -> None:
    """Raises UsageError for units and decoders that no model can have: before the model is opened."""
    from ..engine.graph.units import check_units

    if words.get("units") is not None:
        check_units(words["units"])
    if words.get("decoder") is not None:
        from ..engine.outputs.registry import find_decoder

        find_decoder(words["decoder"])


def needed_layer(graph: Graph, layer: str | None, command: str) -> str:
    """The layer's key.

    Raises:
        UsageError: none is given; the message has one that would do.
    """
    if layer is None:
        last = graph.last_spatial_layer().name
        raise UsageError(f"{command} needs --layer, for instance --layer {last}; list them: convscope info")
    return layer


def read_first(image: Path) -> None:
    """Raises where a picture cannot be read: before the model is opened."""
    from ..engine.pictures.read import read_image

    read_image(image)


def pictures(images: Sequence[Path]) -> list[Path]:
    """The picture files, found before the model is opened.

    Raises:
        UsageError: there are none.
    """
    from ..engine.pictures.read import image_paths

    return list(image_paths(images))
