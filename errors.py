"""Every error that a user can cause, and the exit code the command line gives it.

ConvscopeError          1   the job failed
├── UsageError          2   wrong use: an unknown layer, a unit out of range, a bad flag
│   └── DamagedState    2   what an earlier run kept is not as it was written
├── RefusedInput        3   the input is hostile, corrupt or unsupported
│   ├── UnsafeFile      3   loading it could run code or exhaust the machine
│   ├── UnsupportedOperator 3   no converter for this operator at this opset
│   └── ParityError     3   the two executors disagree: the import is wrong
└── PartlyDone          4   some of the work is finished, the same command resumes

Messages are one line: what is wrong with its value, where, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class ConvscopeError(Exception):
    """The job failed for a reason that the user can read and act upon.

    Messages quote names out of files, which are hostile text: control and direction characters are shown as
    "?", so that a message is one line and cannot write to the terminal.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else "?" for c in message))


class UsageError(ConvscopeError):
    """A name, number or flag that does not fit the model."""

    exit_code = 2


class DamagedState(UsageError):
    """A file that keeps what is done is not as it was written: cut by a power failure, or edited."""


class RefusedInput(ConvscopeError):
    """A file that is corrupt, unsupported or not what it claims to be."""

    exit_code = 3


class UnsafeFile(RefusedInput):
    """A file that could run code or exhaust the machine."""


class UnsupportedOperator(RefusedInput):
    """An ONNX operator (with its opset) for which there is no converter."""


@contextmanager
def instead(advice: str) -> Iterator[None]:
    """What the user can do where an operator on the way has no gradient: put behind the message, which cannot know."""
    try:
        yield
    except UnsupportedOperator as error:
        raise UnsupportedOperator(f"{error}; {advice}") from error


class ParityError(RefusedInput):
    """The differentiable twin and the forward session disagree on a tensor."""


class PartlyDone(ConvscopeError):
    """Some results are finished and kept; the same command continues."""

    exit_code = 4
