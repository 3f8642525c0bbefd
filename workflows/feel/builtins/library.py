"""Declaring built-ins: a signature in FEEL's own words above each implementation.

``@LIBRARY("substring(string: string, start position: number, length: number?)")``: ``?`` marks an
optional parameter, ``...`` one that takes all remaining arguments. Functions with several
signatures declare them from the most to the least specific. An implementation gets the run and the
bound arguments; it only ever sees values of the declared domains.
"""

from collections.abc import Callable
from typing import TypeVar

from workflows.feel.invocation import Signature, Slot
from workflows.feel.values import Value

Implementation = TypeVar("Implementation", bound=Callable[..., Value])


class Library:
    """The built-ins of one module."""

    def __init__(self) -> None:
        self.signatures: dict[str, list[Signature]] = {}

    def __call__(self, *declarations: str) -> Callable[[Implementation], Implementation]:
        """Declare the signatures that an implementation serves."""

        def register(implementation: Implementation) -> Implementation:
            for declaration in declarations:
                name, _, rest = declaration.partition("(")
                slots = tuple(_slot(text) for text in rest.rstrip(")").split(", ") if text)
                self.signatures.setdefault(name, []).append(Signature(slots, implementation))
            return implementation

        return register


def _slot(text: str) -> Slot:
    name, _, domain = text.partition(": ")
    return Slot(name, domain.rstrip("?."), optional=domain.endswith("?"), many=domain.endswith("..."))
