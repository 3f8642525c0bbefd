"""The built-in functions of DMN 1.5 §10.3.4, one module per table."""

from collections.abc import Mapping

from workflows.feel.builtins import (
    contexts,
    conversion,
    lists,
    numbers,
    ranges,
    statistics,
    strings,
    temporal,
)
from workflows.feel.invocation import Builtin
from workflows.feel.names import NameTable

BUILTINS: Mapping[str, Builtin] = {
    name: Builtin(name, signatures)
    for module in (conversion, strings, lists, statistics, numbers, temporal, ranges, contexts)
    for name, signatures in module.LIBRARY.signatures.items()
}
"""Every built-in function by its name."""

BUILTIN_NAMES = NameTable(BUILTINS)
"""The names of the built-ins, for the parser."""
