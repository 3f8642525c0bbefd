"""Rules for the calls of a Python module: known callees, methods, computed callees, passed functions."""

import ast

from activities.scanning.findings import HIDING, Origin
from activities.scanning.python_names import (
    CODE_METHODS,
    CODE_SINKS,
    DECODER_METHODS,
    DECODERS,
    DESERIALISERS,
    FILE_METHODS,
    GETATTR,
    HOOK_LISTS,
    IMPORT_SINKS,
    PROCESS_CALLS,
    STRONG_TARGETS,
)
from activities.scanning.python_references import Reference
from activities.scanning.python_scopes import Scope
from activities.scanning.python_sinks import SEARCHED, PythonSinks, first_argument
from activities.scanning.sinks import DIRECT, report_command, report_executed_origin
from activities.scanning.text_checks import SENSITIVE_NAMES
from models.manifest import Capability
from models.scanning import Severity

_INTERPRETER_CALLS = tuple(
    f"ctypes.pythonapi.Py{name}"
    for name in ("Run_", "Eval_", "Import_", "Object_Call", "Marshal_", "_Compile", "CFunction", "Code_")
)


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


class PythonCalls(PythonSinks):
    """Looks at every call."""

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
            if base != "sys.modules" and base in SEARCHED:
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

    def _method_call(self, method: str, node: ast.Call, scope: Scope, reference: Reference | None) -> None:
        if method in FILE_METHODS and reference is None:
            self._use(Capability.FILESYSTEM, node, f".{method}()")
        elif method in CODE_METHODS:
            argument = first_argument(node)
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
