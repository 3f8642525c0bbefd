"""Rules for Python source: from the indexed nodes to findings and capabilities."""

import ast
import re
import unicodedata
import warnings
from collections.abc import Mapping

from activities.scanning.decoding import guess_layers, looks_encoded
from activities.scanning.findings import HIDING, Collector, Origin
from activities.scanning.limits import MAX_FOLDED_LENGTH
from activities.scanning.python_folding import PythonFolder
from activities.scanning.python_names import (
    CALL_CAPABILITIES,
    CODE_METHODS,
    CODE_SINKS,
    DECODER_METHODS,
    DECODERS,
    DESERIALISERS,
    FILE_METHODS,
    GETATTR,
    HOOK_LISTS,
    IMPORT_SINKS,
    MODULE_CAPABILITIES,
    PATH_LOADERS,
    PROCESS_CALLS,
    STDLIB,
    STRONG_TARGETS,
    TEXT_RUNNERS,
)
from activities.scanning.python_scopes import PythonIndex, Scope, index_python
from activities.scanning.python_values import Reference
from activities.scanning.sinks import DIRECT, report_command, report_decoded, report_executed_origin
from activities.scanning.text_checks import SENSITIVE_NAMES, TELLING_NAMES, looks_like_python
from models.manifest import Capability
from models.scanning import Severity

_TEMPLATE = 8
_CODE_SUFFIXES = (".py", ".pyw", ".pyi", ".cfg", ".in", ".tmpl", ".pyx")
_FILE_NAME = re.compile(r"^[\w./ -]{1,120}\.([A-Za-z0-9]{1,8})$")
_ATTRIBUTE_WALK = re.compile(
    r"\{[\w.\[\]!]{0,60}\.?__(?:globals|init|builtins|subclasses|mro|base|bases|code|import|loader)__"
)
_INTERPRETER_CALLS = tuple(
    f"ctypes.pythonapi.Py{name}"
    for name in ("Run_", "Eval_", "Import_", "Object_Call", "Marshal_", "_Compile", "CFunction", "Code_")
)
_SEARCHED = frozenset({"os", "subprocess", "builtins", "importlib", "ctypes", "sys.modules", "pty", "posix"})
_TELLING_METHODS = frozenset(
    {"system", "popen", "Popen", "execv", "execve", "execvp", "posix_spawn", "check_output"}
)
_ENVIRONMENT_DUMPERS = frozenset(
    {
        "builtins.dict",
        "builtins.str",
        "builtins.repr",
        "json.dumps",
        "builtins.list",
        "copy.copy",
        "copy.deepcopy",
        "pickle.dumps",
        "urllib.parse.urlencode",
        "pprint.pformat",
    }
)


def parse_python(source: str | bytes) -> ast.Module | None:
    """Parse, or return None when the parser refuses for any reason."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError, UnicodeError):
        return None


def scan_python(
    tree: ast.Module, source: str, collector: Collector, local_modules: Mapping[str, Mapping[str, object]]
) -> None:
    """Apply every Python rule to one parsed file."""
    index = index_python(tree)
    try:
        PythonRules(index, source, collector, local_modules).run()
    finally:
        index.release()


class PythonRules:
    """The rules, over one indexed module."""

    def __init__(
        self,
        index: PythonIndex,
        source: str,
        collector: Collector,
        local_modules: Mapping[str, Mapping[str, object]],
    ) -> None:
        self.index = index
        self.source = source
        self.out = collector
        self.folder = PythonFolder(index, source, local_modules)
        self.values = self.folder.values
        self._dumps: list[ast.AST] = []
        self._called = {id(call.func) for call, _ in index.calls}

    def run(self) -> None:
        """Run all rules."""
        self._imports()
        self._names()
        self._attributes()
        for call, scope in self.index.calls:
            self._call(call, scope)
        self._subscripts()
        self._assignments()
        self._decorators()
        self._classes()
        self._joins()
        self._strings()
        self._identifiers()
        if Capability.NETWORK in self.out.capabilities:
            for node in self._dumps[:3]:
                self._add("exfiltration.environment", node)
        for rule in sorted(self.values.exceeded | self.index.exceeded):
            self._add(rule, None, severity=Severity.LOW if rule == "limit.origins" else None)

    # -- modules and names --------------------------------------------------------------------

    def _imports(self) -> None:
        for name, node in self.index.imports:
            parts = name.split(".")
            for end in range(len(parts), 0, -1):
                capability = MODULE_CAPABILITIES.get(".".join(parts[:end]))
                if capability is not None:
                    self._use(capability, node, f"import {name}")
                    break
            else:
                self._note_member(name, node)
            if name in ("sitecustomize", "usercustomize"):
                self._add("install.hook", node, name)
            if parts[0] in (
                "_posixsubprocess",
                "_xxsubinterpreters",
                "_interpreters",
                "_testcapi",
                "_winapi",
            ):
                self._add("evasive.reflection", node, f"import {name}")

    def _note_member(self, name: str, node: ast.AST) -> None:
        capability = CALL_CAPABILITIES.get(name)
        if capability is not None:
            self._use(capability, node, name)

    def _names(self) -> None:
        for node, scope in self.index.names:
            reference = self.values.resolve(node, scope)
            if reference is not None and reference.path in (
                "builtins.exec",
                "builtins.eval",
                "builtins.__import__",
            ):
                self._use(Capability.DYNAMIC_CODE, node, node.id)

    def _attributes(self) -> None:
        for node, scope in self.index.attributes:
            name = node.attr
            reference = self.values.resolve(node, scope)
            path = reference.path if reference else ""
            if name in ("environ", "environb") and path.startswith("os."):
                self._use(Capability.ENVIRONMENT, node, path)
            elif name == "__subclasses__":
                if _is_hierarchy_walk(node.value) or path.startswith("builtins.object"):
                    self._add("evasive.subclasses", node)
            elif name in ("__globals__", "func_globals") and isinstance(node.value, ast.Attribute) and node.value.attr in (  # noqa: E501
                "__init__", "__func__", "__new__", "__enter__", "__exit__", "__call__", "__repr__"
            ):  # fmt: skip
                self._add("evasive.frames", node, f"{node.value.attr}.{name}")
            elif name in ("f_builtins", "__builtins__") and path != "builtins":
                self._add("evasive.frames", node, name)
            elif name == "co_code":
                self._use(Capability.DYNAMIC_CODE, node, name)
            elif path in HOOK_LISTS:
                self._use(Capability.DYNAMIC_CODE, node, path)

    # -- calls --------------------------------------------------------------------------------

    def _call(self, node: ast.Call, scope: Scope) -> None:
        reference = self.values.resolve(node.func, scope)
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if reference is not None:
            self._known_call(reference, node, scope)
        elif isinstance(node.func, ast.Call | ast.Subscript | ast.IfExp | ast.BoolOp | ast.Lambda):
            self._computed_callee(node, scope)
        if method:
            self._method_call(method, node, scope, reference)
        if reference is not None and method in ("items", "values", "keys"):
            base = reference.path.removesuffix(f".{method}").removesuffix(".__dict__")
            if base != "sys.modules" and base in _SEARCHED:
                self._add("evasive.enumeration", node, base)
        if node.args or node.keywords:
            self._passed_functions(node, scope, reference)

    def _known_call(self, reference: Reference, node: ast.Call, scope: Scope) -> None:  # noqa: C901
        path = reference.path
        self._capability_of(path, node)
        if reference.hidden and path in (
            CODE_SINKS | IMPORT_SINKS | PROCESS_CALLS | DESERIALISERS | STRONG_TARGETS
        ):
            self._add("hidden.attribute", node, path, decoded=path)
        elif reference.smuggled and path in (STRONG_TARGETS | CODE_SINKS):
            self._add("evasive.smuggled_module", node, path)
        elif reference.reflective and path in (
            "builtins.exec",
            "builtins.eval",
            "builtins.compile",
            "builtins.execfile",
        ):
            severity = Severity.HIGH if isinstance(node.func, ast.Call | ast.Subscript) else None
            self._add("evasive.literal_reflection", node, path, severity=severity)
        elif reference.reflective and path in STRONG_TARGETS:
            self._add("evasive.literal_reflection", node, path)
        if path in CODE_SINKS:
            self._code_sink(path, node, scope)
        if path in IMPORT_SINKS:
            self._import_sink(path, node, scope)
        if path in GETATTR or path in ("operator.attrgetter", "operator.methodcaller", "operator.itemgetter"):
            self._getattr(path, node, scope)
        if path in PROCESS_CALLS or path.startswith("subprocess."):
            self._process(path, node, scope)
        if path in DESERIALISERS:
            self._deserialise(path, node, scope)
        if path in DECODERS or path in ("urllib.parse.unquote",):
            self._decoder(node, scope, DECODERS.get(path, "percent"))
        if (
            path
            in (
                "ctypes.CDLL",
                "ctypes.cdll.LoadLibrary",
                "ctypes.PyDLL",
                "ctypes.CFUNCTYPE",
                "ctypes.memmove",
            )
            and node.args
        ):
            self._native(node, scope)
        if path in (
            "sys.settrace",
            "sys.setprofile",
            "sys.addaudithook",
            "threading.settrace",
            "threading.setprofile",
        ):
            self._add("evasive.trace", node, path)
        if path in ("gc.get_objects", "gc.get_referrers", "gc.get_referents"):
            self._add("evasive.frames", node, path, severity=Severity.MEDIUM)
        if path == "logging.config.dictConfig" and node.args:
            self._factories(node, scope)
        if path in ("site.addsitedir", "site.addpackage", "site.main"):
            self._add("install.hook", node, path, severity=Severity.MEDIUM)
        if path in ("builtins.dir", "builtins.vars", "inspect.getmembers") and node.args:
            self._enumeration(self.values.resolve(node.args[0], scope), node)
        if path.startswith(_INTERPRETER_CALLS):
            self._add("evasive.reflection", node, path)
        if path == "builtins.setattr" and len(node.args) > 2:
            self._setattr(node, scope)
        if path == "copyreg.pickle" and len(node.args) > 1:
            self._copyreg(node, scope)
        if path in DIRECT and not isinstance(node.func, ast.Name | ast.Attribute):
            self._add("evasive.indirect_call", node, path)
        if path in _ENVIRONMENT_DUMPERS and node.args:
            inner = self.values.resolve(node.args[0], scope)
            if inner is not None and inner.path in ("os.environ", "os.environb"):
                self._environment_dump(node)
        if path in ("os.environ.items", "os.environ.copy") and Capability.NETWORK in self.out.capabilities:
            self._add("environment.dump", node, path, severity=Severity.LOW)

    def _enumeration(self, base: Reference | None, node: ast.AST) -> None:
        if base is not None and base.path in _SEARCHED:
            self._add("evasive.enumeration", node, base.path)

    def _setattr(self, node: ast.Call, scope: Scope) -> None:
        target = self.values.resolve(node.args[0], scope)
        source = self.values.resolve(node.args[2], scope)
        if source is not None and source.path in STRONG_TARGETS - DESERIALISERS:
            known = target is not None and target.path.split(".")[0] in STDLIB
            self._add("evasive.override" if known else "evasive.indirect_call", node, source.path)

    def _copyreg(self, node: ast.Call, scope: Scope) -> None:
        self._add("deserialise.payload", node, "copyreg.pickle", severity=Severity.MEDIUM)
        reducer = node.args[1]
        inner = self.index.scopes.get(id(reducer), scope)
        for part in ast.walk(reducer):
            if isinstance(part, ast.Attribute | ast.Name):
                reference = self.values.resolve(part, inner)
                if reference is not None and reference.path in STRONG_TARGETS:
                    self._add("deserialise.payload", part, reference.path)

    def _capability_of(self, path: str, node: ast.AST) -> None:
        capability = CALL_CAPABILITIES.get(path)
        if capability is None:
            parts = path.split(".")
            for end in range(len(parts) - 1, 0, -1):
                capability = MODULE_CAPABILITIES.get(".".join(parts[:end])) or CALL_CAPABILITIES.get(
                    ".".join(parts[:end])
                )
                if capability is not None:
                    break
        if capability is not None:
            self._use(capability, node, path)

    def _environment_dump(self, node: ast.AST) -> None:
        self._dumps.append(node)
        self._add("environment.dump", node)

    def _code_sink(self, path: str, node: ast.Call, scope: Scope) -> None:
        argument = _first_argument(node)
        if argument is None:
            return
        value = self.folder.fold(argument, scope)
        if isinstance(value, list | tuple) and value and isinstance(value[0], str | bytes):
            value = value[0]
        if isinstance(value, str | bytes):
            plain = self.folder.is_plain(argument) or isinstance(argument, ast.Constant)
            origins = self.values.origins(argument, scope)
            if origins & HIDING:
                self._add("hidden.execution", node, path, decoded=value)
            elif not plain and path in DIRECT:
                self._add("hidden.execution", node, path, decoded=value, severity=Severity.MEDIUM)
            self.out.payload(value, "executed" if plain else "folded", node.lineno, "python")
            return
        if path in TEXT_RUNNERS and not isinstance(
            argument, ast.Call | ast.Name | ast.BinOp | ast.JoinedStr | ast.Subscript
        ):
            return
        origins = self.values.origins(argument, scope)
        if self.values.cut_short and path in DIRECT:
            self._add("limit.origins", node, path)
        report_executed_origin(
            self.out,
            origins,
            self._near(argument, scope),
            node.lineno,
            node.col_offset + 1,
            path,
            self._data_file(argument, scope) if origins & Origin.FILE else None,
        )
        if path in DIRECT and origins & Origin.FILE and _names_itself(argument):
            self._add("file.execution", node, f"{path} of its own source")
        if path not in TEXT_RUNNERS:
            self._use(Capability.DYNAMIC_CODE, node, path)

    def _near(self, argument: ast.AST, scope: Scope) -> int:
        """Origins of the expression itself; a template with code of its own is no split payload."""
        near = self.values.near_origins(argument, scope)
        if near & Origin.SIBLING and any(
            len(text) >= _TEMPLATE and not _FILE_NAME.match(text)
            for text in self._strings_in(argument, scope)
        ):
            near &= ~Origin.SIBLING
        return near

    def _data_file(self, argument: ast.AST, scope: Scope) -> str | None:
        """Name the file that flows into ``argument`` when it is not a code file, or None."""
        for name in self._strings_in(argument, scope):
            match = _FILE_NAME.match(name)
            if match and not name.endswith(_CODE_SUFFIXES) and not match.group(1).isdigit():
                return name
        return None

    def _strings_in(self, node: ast.AST, scope: Scope, depth: int = 0) -> list[str]:
        found: list[str] = []
        for part in ast.walk(node):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                found.append(part.value)
            elif isinstance(part, ast.Name) and depth < 4:
                for binding in scope.lookup(part.id)[:4]:
                    if binding.node is not None and isinstance(binding.node, ast.expr):
                        found.extend(self._strings_in(binding.node, binding.scope, depth + 1))
            elif isinstance(part, ast.BinOp | ast.JoinedStr):
                value = self.folder.fold(part, scope)
                if isinstance(value, str):
                    found.append(value)
            if len(found) > 64:
                break
        return found

    def _import_sink(self, path: str, node: ast.Call, scope: Scope) -> None:
        argument = _first_argument(
            node,
            position=1
            if path in PATH_LOADERS and path not in ("runpy.run_path", "zipimport.zipimporter")
            else 0,
        )
        if argument is None:
            return
        value = self.folder.fold(argument, scope)
        origins = self.values.origins(argument, scope)
        if isinstance(value, bytes):
            value = value.decode("latin-1")
        if isinstance(value, str):
            self._imported_name(value, argument, origins, node, path)
            return
        near = self.values.near_origins(argument, scope)
        if near & HIDING & ~Origin.REVERSED:
            self._add("hidden.import", node, path)
        elif near & Origin.NETWORK or (
            path == "runpy.run_path" and Capability.NETWORK in self.out.capabilities
        ):
            self._add("remote.execution", node, path)
        self._use(Capability.DYNAMIC_CODE, node, path)

    def _imported_name(self, value: str, argument: ast.AST, origins: int, node: ast.Call, path: str) -> None:
        if path in PATH_LOADERS:
            if (
                "." in value
                and not value.endswith((".py", ".pyc", ".so", ".pyd", ".zip", ".whl", ".egg", "/"))
                and value.rpartition(".")[2].isalpha()
            ):
                self._add("file.execution", node, value)
            self._use(Capability.DYNAMIC_CODE, node, path)
            return
        parts = value.split(".")
        capability = next(
            (
                MODULE_CAPABILITIES[name]
                for end in range(len(parts), 0, -1)
                if (name := ".".join(parts[:end])) in MODULE_CAPABILITIES
            ),
            None,
        )
        plain = self.folder.is_plain(argument)
        if not plain and (
            origins & HIDING
            or capability is not None
            or parts[0] in SENSITIVE_NAMES
            or (parts[0] in STDLIB and isinstance(argument, ast.BinOp | ast.JoinedStr))
        ):
            self._add("hidden.import", node, value, decoded=value)
        elif parts[0] in SENSITIVE_NAMES and path == "builtins.__import__":
            self._add("evasive.literal_reflection", node, f"__import__({value!r})")
        if capability is not None:
            self._use(capability, node, f"{path}({value!r})")
        self._use(Capability.DYNAMIC_CODE, node, path)

    def _getattr(self, path: str, node: ast.Call, scope: Scope) -> None:
        position = 0 if path.startswith("operator.") and path != "operator.getitem" else 1
        if len(node.args) <= position:
            return
        argument = node.args[position]
        value = self.folder.fold(argument, scope)
        if isinstance(value, str):
            if position and not value.isidentifier() and looks_like_python(value):
                self._add("evasive.reflection", node, value, decoded=value)
            if self.folder.is_plain(argument):
                if value in ("__globals__", "__builtins__", "__subclasses__", "__code__") and path in GETATTR:
                    self._add(
                        "evasive.literal_reflection",
                        node,
                        value,
                        severity=Severity.HIGH
                        if value in ("__builtins__", "__subclasses__")
                        else Severity.LOW,
                    )
                elif (
                    position == 0
                    and ".__" in value
                    and any(part in SENSITIVE_NAMES for part in value.split("."))
                ):
                    self._add("evasive.format_walk", node, value)
                return
            names = set(value.split("."))
            base = self.values.resolve(node.args[0], scope) if position else None
            if (
                names & SENSITIVE_NAMES
                or (base is not None and f"{base.path}.{value}" in CALL_CAPABILITIES)
                or self.values.near_origins(argument, scope) & (HIDING & ~Origin.REVERSED)
            ):
                self._add("hidden.attribute", node, value, decoded=value)
            return
        origins = self.values.near_origins(argument, scope)
        if origins & (HIDING & ~Origin.REVERSED):
            base = self.values.resolve(node.args[0], scope) if position else None
            known = base is not None and base.path.split(".")[0] in STDLIB
            self._add(
                "hidden.attribute",
                node,
                "a computed name",
                severity=None if known or not position else Severity.LOW,
            )
        elif position:
            base = self.values.resolve(node.args[0], scope)
            if base is not None and base.path in _SEARCHED:
                self._use(Capability.DYNAMIC_CODE, node, f"getattr({base.path}, …)")
                called = id(node) in self._called
                severity = None if called else Severity.LOW
                if base.path != "builtins":
                    severity = Severity.HIGH if called else None
                self._add("evasive.computed_member", node, base.path, severity=severity)

    def _process(self, path: str, node: ast.Call, scope: Scope) -> None:
        argument = _first_argument(node)
        if argument is None:
            return
        origins = self.values.near_origins(argument, scope)
        if path == "pty.spawn" and Capability.NETWORK in self.out.capabilities:
            self._add("command.dangerous", node, "a terminal next to a socket")
        texts: list[str] = []
        value = self.folder.fold(argument, scope)
        if isinstance(value, list | tuple):
            texts.append(" ".join(str(item) for item in value))
        elif isinstance(value, str | bytes):
            texts.append(value.decode("latin-1") if isinstance(value, bytes) else value)
        else:
            texts.append(" ".join(self._strings_in(argument, scope)))
        texts.extend(
            str(item) for extra in node.args[1:4] if (item := self.folder.fold(extra, scope)) is not None
        )
        report_command(self.out, " ".join(texts), origins, node.lineno, node.col_offset + 1)

    def _deserialise(self, path: str, node: ast.Call, scope: Scope) -> None:
        argument = _first_argument(node)
        if argument is None:
            return
        if path in ("yaml.load", "yaml.load_all") and any(
            "Safe" in ast.dump(extra) for extra in (*node.args[1:], *(k.value for k in node.keywords))
        ):
            return
        value = self.folder.fold(argument, scope)
        if isinstance(value, str | bytes):
            self.out.payload(value, "deserialised", node.lineno, "serialised")
            self._add("evasive.literal_reflection", node, f"{path} of a constant", severity=Severity.LOW)
        origins = self.values.origins(argument, scope)
        if origins & Origin.NETWORK:
            self._add("remote.execution", node, path)
        elif (
            origins & HIDING
            and path.split(".")[0] in ("pickle", "marshal", "dill", "cloudpickle")
            and (isinstance(value, bytes) or path.startswith("marshal"))
        ):
            self._add("hidden.execution", node, path)
        self._use(Capability.DESERIALISATION, node, path)

    def _decoder(self, node: ast.Call, scope: Scope, label: str) -> None:
        value = self.folder.fold(node, scope)
        if isinstance(value, str | bytes):
            report_decoded(self.out, value, label, node.lineno, node.col_offset + 1)

    def _native(self, node: ast.Call, scope: Scope) -> None:
        origins = self.values.near_origins(_first_argument(node), scope)
        if origins & (Origin.DECODED | Origin.NETWORK):
            self._add("native.loaded", node)

    def _factories(self, node: ast.Call, scope: Scope) -> None:
        for text in self._strings_in(node.args[0], scope):
            if text in STRONG_TARGETS or f"builtins.{text}" in STRONG_TARGETS:
                self._add("evasive.reflection", node, text)

    def _method_call(self, method: str, node: ast.Call, scope: Scope, reference: Reference | None) -> None:
        if method in FILE_METHODS and reference is None:
            self._use(Capability.FILESYSTEM, node, f".{method}()")
        elif method in CODE_METHODS:
            argument = _first_argument(node)
            value = self.folder.fold(argument, scope) if argument is not None else None
            if isinstance(value, str):
                if self.values.origins(argument, scope) & HIDING:
                    self._add("hidden.execution", node, method, decoded=value)
                self.out.payload(value, "executed", node.lineno, "python")
            elif argument is not None:
                report_executed_origin(
                    self.out,
                    self.values.origins(argument, scope),
                    self._near(argument, scope),
                    node.lineno,
                    node.col_offset + 1,
                    method,
                    None,
                )
            if method not in ("exec_module", "load_module"):
                self._use(Capability.DYNAMIC_CODE, node, f".{method}()")
        elif method in DECODER_METHODS or method == "translate":
            self._decoder(node, scope, method)
        elif method in _TELLING_METHODS and reference is None and node.args:
            self._unknown_process(method, node, scope)
        elif method in ("decode", "encode") and self.values._codec_origin(node, scope):
            self._decoder(node, scope, "codec")
        elif method == "__import__":
            self._add("evasive.reflection", node, "__import__ as a member")
        elif method in ("get_field", "vformat") and node.args:
            value = self.folder.fold(node.args[0], scope)
            if isinstance(value, str) and "__" in value:
                self._add("evasive.format_walk", node, value)
        elif method in ("insert", "append", "extend", "update") and isinstance(node.func, ast.Attribute):
            base = self.values.resolve(node.func.value, scope)
            if base is not None and base.path in HOOK_LISTS:
                self._add(
                    "evasive.import_hook",
                    node,
                    base.path,
                    severity=Severity.LOW if method == "append" else Severity.MEDIUM,
                )

    def _unknown_process(self, method: str, node: ast.Call, scope: Scope) -> None:
        """``x.system("id")``: a process is started by the member of something that cannot be read."""
        base = node.func.value if isinstance(node.func, ast.Attribute) else None
        if isinstance(base, ast.Name) and base.id in ("self", "cls"):
            return
        loaded = self.values.resolve(base.func, scope) if isinstance(base, ast.Call) else None
        imported = loaded is not None and loaded.path in IMPORT_SINKS
        if imported or method == "system":
            self._add(
                "evasive.computed_member", node, f".{method}()", severity=Severity.HIGH if imported else None
            )

    def _computed_callee(self, node: ast.Call, scope: Scope) -> None:
        function = node.func
        if (
            isinstance(function, ast.Call)
            and isinstance(function.func, ast.Name)
            and function.func.id == "getattr"
        ):
            return
        if isinstance(function, ast.Subscript) and self.values.origins(function.slice, scope) & (
            HIDING & ~Origin.REVERSED
        ):
            base = self.values.resolve(function.value, scope)
            if base is not None:
                self._add("hidden.attribute", node, "a computed name")

    def _passed_functions(self, node: ast.Call, scope: Scope, callee: Reference | None) -> None:
        """``map(exec, parts)``, ``Thread(target=os.system, args=…)``: an executing function as a value."""
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        if callee is not None and callee.path in (
            "builtins.isinstance",
            "builtins.print",
            "builtins.hasattr",
            "builtins.callable",
        ):
            return
        for position, argument in enumerate(arguments):
            if argument.__class__ not in (ast.Name, ast.Attribute, ast.Call, ast.Subscript):
                continue
            reference = self.values.resolve(argument, scope)
            if (
                reference is None
                or reference.path not in STRONG_TARGETS
                or (isinstance(argument, ast.Call) and not reference.reflective)
            ):
                continue
            if isinstance(argument, ast.Call) and callee is not None and callee.path in IMPORT_SINKS:
                continue
            self._capability_of(reference.path, argument)
            if reference.hidden:
                self._add("hidden.attribute", argument, reference.path, decoded=reference.path)
            if reference.path in (
                "builtins.exec",
                "builtins.eval",
                "builtins.compile",
                "builtins.__import__",
            ):
                self._add(
                    "evasive.indirect_call",
                    argument,
                    reference.path,
                    severity=Severity.LOW if reference.path == "builtins.__import__" else None,
                )
            for other in arguments[:position] + arguments[position + 1 :]:
                self._indirect_argument(reference.path, other, node, scope)

    def _indirect_argument(self, path: str, argument: ast.expr, node: ast.Call, scope: Scope) -> None:
        value = self.folder.fold(argument, scope)
        origins = self.values.origins(argument, scope)
        items = list(value)[:32] if isinstance(value, list | tuple | set) else [value]
        texts = [item for item in items if isinstance(item, str | bytes)]
        if path.startswith("builtins."):
            near = self._near(argument, scope)
            report_executed_origin(self.out, origins, near, node.lineno, node.col_offset + 1, path, None)
            for text in texts:
                self.out.payload(text, "executed", node.lineno, "python")
                plain_text = text if isinstance(text, str) else text.decode("latin-1")
                if path == "builtins.__import__" and plain_text in SENSITIVE_NAMES:
                    self._add("evasive.reflection", node, f"{path} of {plain_text}")
        else:
            joined = " ".join(text if isinstance(text, str) else text.decode("latin-1") for text in texts)
            report_command(self.out, joined, origins, node.lineno, node.col_offset + 1)

    # -- other nodes --------------------------------------------------------------------------

    def _subscripts(self) -> None:
        for node, scope in self.index.subscripts:
            base = self.values.resolve(node.value, scope)
            if base is None:
                if (
                    isinstance(node.ctx, ast.Load)
                    and isinstance(node.value, ast.Attribute)
                    and node.value.attr
                    in (
                        "__globals__",
                        "f_globals",
                        "f_builtins",
                        "__dict__",
                        "func_globals",
                    )
                ):
                    name = self.folder.fold(node.slice, scope)
                    if isinstance(name, str) and (
                        name
                        in ("__builtins__", "os", "sys", "eval", "exec", "__import__", "system", "subprocess")
                    ):
                        self._add("evasive.frames", node, name, decoded=name)
                continue
            reference = self.values.resolve(node, scope)
            if reference is None:
                if base.path in (
                    "builtins",
                    "os",
                    "subprocess",
                    "sys.modules",
                    "<namespace>",
                ) and self.values.near_origins(node.slice, scope) & (HIDING & ~Origin.REVERSED):
                    self._add("hidden.attribute", node, base.path)
                continue
            if reference.hidden and (
                reference.path in STRONG_TARGETS
                or reference.path in ("os", "subprocess", "builtins", "ctypes", "importlib", "socket", "pty")
            ):
                self._add("hidden.attribute", node, reference.path, decoded=reference.path)
            elif base.path == "builtins" and reference.path in STRONG_TARGETS:
                self._add("evasive.literal_reflection", node, reference.path, severity=Severity.HIGH)
            elif base.path in ("sys.modules", "<namespace>") and reference.path in (
                "os",
                "subprocess",
                "builtins",
                "pty",
                "ctypes",
            ):
                self._add("evasive.literal_reflection", node, f"{base.path}[{reference.path!r}]")

    def _assignments(self) -> None:
        for target, value, scope in self.index.assignments:
            if isinstance(target, ast.Attribute) and target.attr in ("__code__", "func_code"):
                self._add("evasive.code_object", target, target.attr)
                continue
            replaced = (
                self.values.resolve(target, scope)
                if isinstance(target, ast.Attribute)
                else self.values.resolve(target.value, scope)
                if isinstance(target, ast.Subscript)
                else None
            )
            source = self.values.resolve(value, scope)
            if (
                source is not None
                and source.path in STRONG_TARGETS
                and source.path != (replaced.path if replaced else "")
            ):
                known = replaced is not None and replaced.path.split(".")[0] in STDLIB
                self._add(
                    "evasive.override" if known else "evasive.indirect_call",
                    target,
                    source.path,
                    severity=Severity.LOW if not known and source.path == "builtins.__import__" else None,
                )
            elif replaced is not None and replaced.path in (
                "builtins.__import__",
                "builtins.open",
                "builtins.exec",
                "builtins.eval",
                "builtins.print",
            ):
                self._add(
                    "evasive.override",
                    target,
                    replaced.path,
                    severity=Severity.MEDIUM if "__import__" in replaced.path else Severity.LOW,
                )
            elif replaced is not None and replaced.path in HOOK_LISTS:
                self._add("evasive.import_hook", target, replaced.path, severity=Severity.MEDIUM)

    def _decorators(self) -> None:
        for decorator, decorated, scope in self.index.decorators:
            reference = self.values.resolve(decorator, scope)
            if (reference is not None and reference.path in STRONG_TARGETS) or (
                reference is not None
                and reference.path == "builtins.input"
                and len(getattr(decorated, "decorator_list", [])) > 1
            ):
                self._add("evasive.decorator", decorator, reference.path)

    def _classes(self) -> None:
        for node, inner in self.index.classes:
            for statement in node.body:
                if isinstance(statement, ast.Assign):
                    reference = self.values.resolve(statement.value, inner)
                    if reference is not None and reference.path in STRONG_TARGETS:
                        names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
                        special = any(name.startswith("__") for name in names)
                        self._add(
                            "evasive.decorator" if special else "evasive.indirect_call",
                            statement,
                            f"{' '.join(names)} = {reference.path}",
                        )
                elif isinstance(statement, ast.FunctionDef) and statement.name in (
                    "__reduce__",
                    "__reduce_ex__",
                ):
                    self._reduce(statement, inner)
            for keyword in node.keywords:
                if keyword.arg == "metaclass":
                    reference = self.values.resolve(keyword.value, inner)
                    if reference is not None and reference.path in STRONG_TARGETS:
                        self._add("evasive.decorator", keyword.value, f"metaclass={reference.path}")

    def _reduce(self, function: ast.FunctionDef, scope: Scope) -> None:
        inner = self.index.scopes.get(id(function), scope)
        for part in ast.walk(function):
            if isinstance(part, ast.Return) and isinstance(part.value, ast.Tuple) and part.value.elts:
                reference = self.values.resolve(part.value.elts[0], inner)
                if reference is not None and reference.path in STRONG_TARGETS:
                    self._add("deserialise.payload", part, f"{function.name} returns {reference.path}")

    def _joins(self) -> None:
        for node, scope in self.index.joins:
            value = self.folder.fold(node, scope)
            if not isinstance(value, str | bytes) or not 2 < len(value) <= 100_000:
                continue
            text = value if isinstance(value, str) else value.decode("latin-1")
            if text in TELLING_NAMES:
                self._add("hidden.string", node, text, decoded=text)
            elif self.values.origins(node, scope) & (HIDING & ~Origin.REVERSED):
                report_decoded(self.out, text, "folded", node.lineno, node.col_offset + 1)

    def _strings(self) -> None:
        for node in self.index.strings:
            value = node.value
            if not isinstance(value, str | bytes):
                continue
            text = value if isinstance(value, str) else value.decode("latin-1")
            if len(text) >= 16:
                if "__" in text and _ATTRIBUTE_WALK.search(text):
                    self._add("evasive.format_walk", node, text)
                if len(text) > MAX_FOLDED_LENGTH and looks_encoded(text):
                    self._add("limit.payloads", node, f"{len(text)} characters in one literal")
                for label, decoded in guess_layers(text):
                    self.out.payload(decoded, label, node.lineno)
                if (
                    isinstance(value, bytes)
                    and len(value) > 24
                    and value[:1] in (b"\x80", b"c")
                    and b"." in value[-2:]
                ):
                    self.out.payload(value, "bytes", node.lineno, "serialised")
                if isinstance(value, str) and value.lstrip()[:8].startswith(("!!python", '{"py/')):
                    self.out.payload(value, "text", node.lineno, "serialised")

    def _identifiers(self) -> None:
        if self.source.isascii():
            return
        for number, text in enumerate(self.source.split("\n"), 1):
            if not text.isascii():
                self._identifiers_of(text, number)

    def _identifiers_of(self, text: str, number: int) -> None:
        for match in re.finditer(r"[^\W\d][\w]*", text):
            word = match.group(0)
            if word.isascii():
                continue
            folded = unicodedata.normalize("NFKC", word)
            if (
                folded.isascii()
                and folded != word
                and (
                    folded in SENSITIVE_NAMES
                    or folded in ("getattr", "globals", "open", "print", "chr", "decode")
                )
            ):
                self._add(
                    "evasive.identifier",
                    None,
                    folded,
                    decoded=folded,
                    line=number,
                )

    # -- reporting ----------------------------------------------------------------------------

    def _use(self, capability: Capability, node: ast.AST, what: str) -> None:
        self.out.use(capability, getattr(node, "lineno", 0), getattr(node, "col_offset", -1) + 1, what)

    def _add(
        self,
        rule: str,
        node: ast.AST | None,
        detail: str = "",
        *,
        decoded: object = None,
        severity: Severity | None = None,
        line: int = 0,
    ) -> None:
        self.out.add(
            rule,
            line or getattr(node, "lineno", 0),
            getattr(node, "col_offset", -1) + 1,
            detail,
            decoded=decoded,
            severity=severity,
        )


def _names_itself(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Name) and part.id == "__file__" for part in ast.walk(node))


def _first_argument(node: ast.Call, position: int = 0) -> ast.expr | None:
    if len(node.args) > position:
        argument = node.args[position]
        return argument.value if isinstance(argument, ast.Starred) else argument
    if node.args:
        return node.args[-1]
    return node.keywords[0].value if node.keywords else None


def _is_hierarchy_walk(node: ast.AST) -> bool:
    """Whether ``node`` climbs to ``object``: ``().__class__.__base__``, ``x.__mro__[-1]``, ``type.mro()``."""
    while isinstance(node, ast.Subscript | ast.Call):
        node = node.value if isinstance(node, ast.Subscript) else node.func
    return (isinstance(node, ast.Attribute) and node.attr in ("__base__", "__bases__", "__mro__", "mro")) or (
        isinstance(node, ast.Name) and node.id == "object"
    )


__all__ = ["looks_like_python", "parse_python", "scan_python"]
