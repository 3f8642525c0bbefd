"""Serialised objects that run code when loaded: pickle, YAML, jsonpickle, node-serialize, marshal."""

import base64
import pickletools
import re

from activities.scanning.decoding import inflate
from activities.scanning.findings import Collector

_DANGEROUS_MODULES = frozenset(
    [
        "os",
        "posix",
        "nt",
        "subprocess",
        "builtins",
        "__builtin__",
        "sys",
        "importlib",
        "runpy",
        "pty",
        "socket",
        "shutil",
        "ctypes",
        "code",
        "pip",
        "webbrowser",
        "asyncio",
        "commands",
        "marshal",
        "types",
        "operator",
        "functools",
        "pickle",
    ]
)
_HARMLESS = frozenset(
    {
        "builtins.set",
        "builtins.frozenset",
        "builtins.object",
        "builtins.list",
        "builtins.dict",
        "builtins.tuple",
        "builtins.bytearray",
        "builtins.complex",
        "builtins.range",
        "builtins.slice",
        "__builtin__.set",
        "__builtin__.object",
        "__builtin__.list",
        "functools.partial",
        "operator.attrgetter",
        "operator.itemgetter",
    }
)
_YAML = re.compile(r"!!python/(?:object/(?:apply|new)|name|module):\s*([\w.]+)")
_JSONPICKLE = re.compile(
    r"\"py/(?:reduce|object|function|type|repr)\"\s*:\s*(?:\[\s*\{\s*\"py/\w+\"\s*:\s*)?\"([\w./]+)\""
)
_MAX_PICKLE = 2 << 20


def scan_serialised(value: str | bytes, line: int, out: Collector) -> None:
    """Report what loading ``value`` would run."""
    text = value if isinstance(value, str) else value.decode("latin-1")
    if "_$$ND_FUNC$$_" in text:
        out.add("deserialise.payload", line, 0, "node-serialize function")
        out.payload(text.split("_$$ND_FUNC$$_", 1)[1].rstrip('"}'), "deserialised", line, "javascript")
    for match in (*_YAML.finditer(text), *_JSONPICKLE.finditer(text)):
        if match.group(1).split(".")[0] in _DANGEROUS_MODULES:
            out.add("deserialise.payload", line, 0, match.group(1))
    data = value if isinstance(value, bytes) else value.encode("latin-1", "replace")
    if data[:2] in (b"x\x9c", b"x\xda", b"\x1f\x8b"):
        data = inflate(data) or data
    elif re.match(rb"^gA[JSMRW]", data[:3]):
        try:
            data = base64.b64decode(data + b"==")
        except ValueError:
            return
    if len(data) > _MAX_PICKLE:
        out.add("limit.text", line, 0, "a serialised object")
    _scan_pickle(data[:_MAX_PICKLE], line, out)


def _scan_pickle(data: bytes, line: int, out: Collector) -> None:
    if not data or data[0] not in b"\x80c(i}]":
        return
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in ("GLOBAL", "INST") and isinstance(argument, str):
                _judge(argument.replace(" ", "."), line, out)
            elif opcode.name == "STACK_GLOBAL" and len(strings) >= 2:
                _judge(f"{strings[-2]}.{strings[-1]}", line, out)
            elif isinstance(argument, str) and "UNICODE" in opcode.name:
                strings.append(argument)
                del strings[:-8]
    except Exception:
        return


def _judge(path: str, line: int, out: Collector) -> None:
    if path.split(".")[0] in _DANGEROUS_MODULES and path not in _HARMLESS:
        out.add("deserialise.payload", line, 0, path)
