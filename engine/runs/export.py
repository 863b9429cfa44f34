"""``export``: the model with its own explanation inside, and pages that run it in a browser."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ..attribution.batch import Executors
from ..export import Exported, check_request, export, score_of
from ..export.web import write_folder, write_single_file
from ..record import Record
from ..render.artifacts import check_folder, check_no_device
from .events import Note, OnEvent, ignore
from .opening import Model, opened
from .reading import Asked, Region
from .result import Result

Runtime = Callable[[Callable[[str], None]], Mapping[str, bytes]]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the file explains, and how; see `export.export`.

    Attributes:
        method, layer, class_input, resize, normalize, steps, preprocessing, decoder, output: as there.
        target, of, region, mask, like, to, against: the question, see `Asked`.
    """

    method: str | None = None
    layer: str | None = None
    target: Any = None
    of: str = "score"
    region: Region | None = None
    mask: Any = None
    like: Any = None
    to: float | None = None
    against: Any = None
    class_input: bool = False
    resize: str | None = None
    normalize: bool = False
    steps: int | None = None
    preprocessing: str | None = None
    decoder: str | None = None
    output: str | None = None

    def check(self) -> None:
        """Raises UsageError for what no file can have."""
        check_request(self.method, self.resize, self.preprocessing, self.steps)

    @property
    def asked(self) -> Asked:
        """The question."""
        return Asked(self.target, None, self.of, self.region, self.mask, self.like, self.to, self.against)

    def of_export(self, *names: str) -> dict[str, Any]:
        """These options by name, as `export.export` takes them."""
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, eq=False, repr=False)
class Written(Result):
    """The result of `run`.

    Attributes:
        exported: the file, and how far it is from the twin.
        pages: those that run it in a browser.
    """

    exported: Exported | None = None
    pages: Sequence[Path] = ()

    @property
    def paths(self) -> Sequence[Path]:
        """The file and the pages."""
        return (*([self.exported.path] if self.exported else ()), *self.pages)


def run(
    model: Model,
    options: Options | None = None,
    folder: Path | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
    single_file: str | os.PathLike[str] | None = None,
    runtime: Runtime | None = None,
    command: str | None = None,
    on_event: OnEvent = ignore,
) -> Written:
    """Writes the file, and the pages that are asked for.

    Args:
        model: from `convscope.load`, or what opens it.
        options: default the evidence for what the file is asked for.
        folder: of a page that runs the model in a browser, or None.
        path: the new file; default ``MODEL-METHOD.onnx``, or ``MODEL-explained.onnx``.
        single_file: the page as one file, or None.
        runtime: gives the bytes of `web.RUNTIME`, and tells its stages; pages need it.
        command: what the record says made them.
        on_event: told of every stage, and how the file was proven.

    Raises:
        UsageError: what no page or file can have, see `export.export`. ConvscopeError: the file's map is not the
            twin's; nothing is written.
    """
    options = options or Options()
    options.check()
    has_pages = folder is not None or single_file is not None
    if has_pages and options.preprocessing is not None:
        raise UsageError("preprocessing=inside is not for pages; they do their own, leave it out")
    for file in (path, single_file):
        if file is not None:
            if Path(file).is_dir():
                raise UsageError(f"cannot write '{file}': it is a folder; name a file")
            check_no_device(Path(file))
            check_folder(Path(file).absolute().parent)
    graph = opened(model, folder, on_event)

    def told(stage: str) -> None:
        on_event(Note(stage))

    reading = options.of_export("decoder", "output")
    question = options.asked.question(Executors(graph, **reading))
    class_input = options.class_input
    if has_pages:  # a page asks wherever the file can be asked
        class_input = class_input or bool(score_of(graph, question, **reading).inputs)
    done = export(
        graph,
        path or Path(f"{graph.name}-{(options.method or 'explained').replace('+', 'p')}.onnx"),
        target=question,
        class_input=class_input,
        progress=told,
        **options.of_export("method", "layer", "resize", "normalize", "steps", "preprocessing"),
        **reading,
    )
    for line in done.lines:
        told(line)
    pages: list[Path] = []
    if has_pages:
        if runtime is None:
            raise UsageError("a page needs ONNX Runtime for browsers: runtime=models.onnxruntime_web.runtime_files")
        files = runtime(told)
        pages += [write_folder(graph, done.path, folder, files)] if folder is not None else []
        pages += [write_single_file(graph, done.path, single_file, files)] if single_file is not None else []
    content = {**done.to_json(), "pages": [str(page) for page in pages]}
    return Written(Record.of(graph, command).to_json(content), None, done, pages)
