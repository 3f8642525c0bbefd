"""Every rule once: id, severity, message, remedy.

HIGH and CRITICAL are for hiding and for code that no honest agent needs; they block. MEDIUM is for
what a person must look at. LOW informs. Uses of capabilities are findings only when the manifest
does not declare them (`activities/scanning/verdict.py`).
"""

from dataclasses import dataclass

from models.scanning import Severity

RULE_SET_VERSION = "2026.11.2"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a finding of this rule says.

    Attributes:
        severity: Weight.
        message: First part of the finding's message.
        remedy: What the developer can do.
    """

    severity: Severity
    message: str
    remedy: str


_PLAIN = "Write the name plainly and declare the capability in the manifest."
_VISIBLE = "Ship the code itself as a source file instead of an encoded or generated value."
_REMOVE = "Remove it."
_REVIEWED = "A reviewer will look at it; remove it if it is not needed."

_C, _H, _M, _L = Severity.CRITICAL, Severity.HIGH, Severity.MEDIUM, Severity.LOW

RULES: dict[str, Rule] = {
    "hidden.execution": Rule(_C, "Code is executed from a decoded or computed value", _VISIBLE),
    "hidden.import": Rule(_C, "A module is loaded by a name that is not written plainly", _PLAIN),
    "hidden.attribute": Rule(
        _C, "A sensitive member is reached by a name that is not written plainly", _PLAIN
    ),
    "hidden.string": Rule(_H, "A sensitive value is hidden by encoding or splitting", _PLAIN),
    "hidden.payload": Rule(_C, "An encoded value decodes to code", _VISIBLE),
    "hidden.command": Rule(_C, "A command is put together from encoded or split pieces", _PLAIN),
    "remote.execution": Rule(_C, "Data from the network is executed or deserialised as code", _REMOVE),
    "file.execution": Rule(_H, "The content of a data file is executed", _VISIBLE),
    "environment.execution": Rule(_H, "A value of the environment is executed", _REMOVE),
    "split.execution": Rule(_H, "Code is put together from several modules or data files", _VISIBLE),
    "evasive.reflection": Rule(_H, "Reflection reaches an interpreter internal", _PLAIN),
    "evasive.literal_reflection": Rule(_M, "A sensitive member is fetched by name", _PLAIN),
    "evasive.subclasses": Rule(_C, "The class hierarchy is walked to reach hidden classes", _REMOVE),
    "evasive.frames": Rule(_H, "Frames or function globals are used to reach builtins", _REMOVE),
    "evasive.format_walk": Rule(_H, "A format string walks attributes", _REMOVE),
    "evasive.indirect_call": Rule(_M, "An executing function is passed on as a value", _PLAIN),
    "evasive.decorator": Rule(_C, "An executing function is used as a decorator or special method", _REMOVE),
    "evasive.computed_member": Rule(
        _M, "A member of a sensitive module is picked by a name that cannot be read", _PLAIN
    ),
    "evasive.enumeration": Rule(_M, "The members of a sensitive module are searched", _PLAIN),
    "evasive.encoding": Rule(_H, "A source file declares an encoding that hides its text", "Use UTF-8."),
    "evasive.override": Rule(_H, "A builtin or a standard module is replaced", _REMOVE),
    "evasive.code_object": Rule(_M, "A code object is built or exchanged by hand", _REMOVE),
    "evasive.import_hook": Rule(_H, "The import system is hooked", _REMOVE),
    "evasive.smuggled_module": Rule(_H, "A module is reached through another module's namespace", _PLAIN),
    "evasive.constructor": Rule(_C, "A function is built through a constructor chain", _REMOVE),
    "evasive.internals": Rule(_C, "Internals of the runtime are used", _REMOVE),
    "evasive.module_internals": Rule(_C, "Internals of the module loader are used", _REMOVE),
    "evasive.computed_call": Rule(_H, "A function is called by a name that cannot be read", _PLAIN),
    "evasive.unicode": Rule(_C, "Invisible or bidirectional characters in code", _REMOVE),
    "evasive.identifier": Rule(
        _H, "A sensitive identifier is written with escapes or look-alike letters", _PLAIN
    ),
    "evasive.homoglyph": Rule(_M, "An identifier mixes alphabets", _PLAIN),
    "evasive.trace": Rule(_L, "A trace, audit or exit hook runs code", _REVIEWED),
    "evasive.prototype": Rule(_H, "A built-in prototype or object is polluted with code", _REMOVE),
    "dynamic.visible": Rule(_M, "Code is generated and executed", "Declare the capability dynamic_code."),
    "dynamic.unreadable": Rule(_M, "Code is executed from a value that cannot be read", _REVIEWED),
    "deserialise.payload": Rule(_C, "A serialised object runs code when it is loaded", _REMOVE),
    "command.dangerous": Rule(
        _C, "A command downloads and runs code, opens a shell or harms the host", _REMOVE
    ),
    "command.interpreter": Rule(_M, "An interpreter is started with inline code", _REVIEWED),
    "exfiltration.environment": Rule(
        _H, "All environment variables are collected and the network is used", _REMOVE
    ),
    "environment.dump": Rule(
        _L, "All environment variables are collected", "Read only the variables needed."
    ),
    "path.sensitive": Rule(_M, "A path of credentials or of the host is named", _REMOVE),
    "address.suspicious": Rule(_M, "An address often used for exfiltration is named", _REVIEWED),
    "address.metadata": Rule(_M, "The cloud metadata address is named", _REMOVE),
    "install.hook": Rule(
        _H, "Code runs at installation or interpreter start", "Remove the hook; it is never run."
    ),
    "install.script": Rule(_M, "An install script is declared", "Remove it; the platform never runs it."),
    "native.disguised": Rule(_C, "A binary does not say what it is", _REMOVE),
    "native.binary": Rule(_M, "A native binary is included", "Declare the capability native."),
    "native.loaded": Rule(_H, "Native code is loaded from a decoded or written value", _REMOVE),
    "content.disguised_code": Rule(
        _H, "Code in a file that does not say so", "Give the file its proper extension."
    ),
    "content.nested_archive": Rule(_M, "An archive inside the archive", "Ship its files unpacked."),
    "content.disguised_archive": Rule(_H, "An archive or serialised object does not say what it is", _REMOVE),
    "content.serialised": Rule(_M, "A serialised object file is included", "Ship data as JSON."),
    "content.polyglot": Rule(_H, "A file is valid in two formats", _REMOVE),
    "content.bytecode": Rule(_H, "Compiled bytecode cannot be read", "Ship the source only."),
    "content.shell": Rule(_M, "A shell script is included", _REVIEWED),
    "content.active_markup": Rule(_M, "A document holds script", _REVIEWED),
    "content.opaque": Rule(_M, "A file's content cannot be told apart from encrypted data", _REVIEWED),
    "parse.failed": Rule(
        _M, "A source file cannot be parsed", "Correct its syntax; unreadable code is reviewed."
    ),
    "obfuscation.names": Rule(_H, "Names were machine-generated by an obfuscator", "Ship readable source."),
    "obfuscation.symbols": Rule(_C, "Code is written in symbols only", "Ship readable source."),
    "obfuscation.escapes": Rule(_M, "Ordinary letters are written as escapes", "Write the text plainly."),
    "obfuscation.blob": Rule(_M, "A long string looks encrypted or encoded", _REVIEWED),
    "obfuscation.hidden_column": Rule(_H, "Code stands far outside the visible part of a line", _REMOVE),
    "secret.credential": Rule(
        _M, "A secret is written in a file", "Revoke it and use the deployment's config."
    ),
    "wallet.address": Rule(_M, "A cryptocurrency address with a valid checksum", "Explain or remove it."),
    "dependency.malicious": Rule(_C, "A known malicious package is required", _REMOVE),
    "dependency.typosquat": Rule(_M, "A package name is close to a popular one", "Check the name."),
    "dependency.deprecated": Rule(_L, "A deprecated package is required", "Use its successor."),
    "dependency.url": Rule(
        _M, "A dependency comes from a URL, a path or a repository", "Use a registry release."
    ),
    "dependency.unpinned": Rule(_M, "A dependency accepts any version", "Give a version or a range."),
    "dependency.confusion": Rule(_M, "Another package index is configured", _REMOVE),
    "dependency.alias": Rule(
        _M, "A dependency is installed under another name", "Use the package's own name."
    ),
    "dependency.unreadable": Rule(_M, "A dependency file cannot be read", "Correct its syntax."),
    "yara.match": Rule(_H, "A known malicious pattern", _REMOVE),
    "yara.suspicious": Rule(_M, "A suspicious pattern", _REVIEWED),
    "manifest.missing": Rule(_M, "The submission has no readable manifest.json", "Add manifest.json."),
    "manifest.invalid": Rule(_L, "The manifest is invalid", "Correct the named fields."),
    "manifest.entry_point": Rule(_M, "The entry point is not in the submission", "Correct entry_point."),
    "capability.undeclared": Rule(_M, "An undeclared capability is used", "Declare it in capabilities."),
    "archive.refused": Rule(_C, "The archive is refused", "Build a plain tar.gz of regular files."),
    "limit.parts": Rule(
        _M,
        "The file is so large that it was read in parts, and names were not followed from part to part",
        "Divide it into modules.",
    ),
    "limit.names": Rule(
        _M, "Names are so tangled that they were not followed to the end", "Give each value one plain name."
    ),
    "limit.constants": Rule(
        _M, "Constants take so many steps to compute that not all were computed", "Write the values plainly."
    ),
    "limit.origins": Rule(
        _M, "What flows into executed or decoded values was not followed to the end", "Use fewer steps."
    ),
    "limit.payloads": Rule(
        _M, "There are more encoded values than were decoded", "Ship data as files instead of literals."
    ),
    "limit.text": Rule(
        _M, "A part of the file was not looked at, because it is too large", "Divide the file."
    ),
    "scanner.limit": Rule(_C, "The scan exceeded its limits", "Make the code smaller or simpler."),
    "scanner.error": Rule(
        _M, "A file could not be scanned", "Simplify the file; a reviewer will look at it."
    ),
}
