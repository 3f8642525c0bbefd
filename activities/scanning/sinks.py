"""Judgements both languages share: what flows into an executing function, and what a decoder reveals."""

from activities.scanning.decoding import mostly_text
from activities.scanning.findings import HIDING, Collector, Origin
from activities.scanning.text_checks import (
    dangerous_command,
    inline_interpreter,
    looks_like_javascript,
    looks_like_python,
    revealing,
)
from models.scanning import Severity

# Generators of code use Function and compile with parts of their own; eval of parts is splitting.
DIRECT = frozenset({"eval", "builtins.exec", "builtins.eval"})


def report_executed_origin(
    out: Collector,
    origins: int,
    near: int,
    line: int,
    column: int,
    sink: str,
    data_file: str | None,
) -> None:
    """Report code that is executed from a value that cannot be read, by where the value comes from.

    ``near`` holds the origins of the expression itself; what only flows in from afar (an option read
    from the environment by a code generator, say) is ordinary.
    """
    if near & HIDING:
        out.add("hidden.execution", line, column, sink)
    elif origins & (Origin.DECODED | Origin.ARITHMETIC):
        out.add("dynamic.unreadable", line, column, sink, severity=Severity.LOW)
    if origins & Origin.NETWORK:
        out.add("remote.execution", line, column, sink)
    if near & Origin.ENVIRONMENT and not near & Origin.FILE:
        out.add("environment.execution", line, column, sink)
    if sink in DIRECT and near & Origin.SIBLING and not near & ~(Origin.SIBLING | Origin.FOLDED):
        out.add("split.execution", line, column, sink)
    if near & Origin.INPUT:
        out.add("dynamic.unreadable", line, column, sink)
    if data_file is not None:
        out.add("file.execution", line, column, f"{sink} of {data_file}")


def report_command(out: Collector, command: str, origins: int, line: int, column: int) -> None:
    """Report a process start by its folded command line and by where the command comes from."""
    danger = dangerous_command(command)
    if danger:
        out.add("command.dangerous", line, column, danger, decoded=command)
    elif inline_interpreter(command):
        out.add("command.interpreter", line, column, command)
    if origins & (HIDING & ~Origin.REVERSED):
        out.add("hidden.command", line, column, decoded=command or None)
    if origins & Origin.NETWORK:
        out.add("remote.execution", line, column, "a command")


def report_decoded(out: Collector, value: str | bytes, label: str, line: int, column: int) -> None:
    """Report what a decoder call reveals, and ask for a scan of the result when it may be code."""
    if isinstance(value, bytes):
        if not mostly_text(value):
            out.payload(value, label, line)
            return
        text = value.decode("utf-8", "replace")
    else:
        text = value
    why = revealing(text)
    if why is not None:
        out.add("hidden.string", line, column, why, decoded=text)
    if (len(text) > 8 and (looks_like_python(text) or looks_like_javascript(text))) or len(text) >= 16:
        out.payload(text, label, line)
