"""Which dotted names of JavaScript do what. Modules are written ``module:name``."""

from activities.scanning.findings import Origin
from models.manifest import Capability

GLOBAL_OBJECTS = frozenset(
    ["globalThis", "global", "window", "self", "root", "GLOBAL", "top", "frames", "parent"]
)
KNOWN_GLOBALS = frozenset(
    [
        "eval",
        "Function",
        "require",
        "process",
        "module",
        "exports",
        "Buffer",
        "setTimeout",
        "setInterval",
        "setImmediate",
        "queueMicrotask",
        "atob",
        "btoa",
        "fetch",
        "XMLHttpRequest",
        "WebSocket",
        "EventSource",
        "WebAssembly",
        "Reflect",
        "Proxy",
        "Object",
        "Array",
        "String",
        "Number",
        "Symbol",
        "JSON",
        "Error",
        "RegExp",
        "Promise",
        "Map",
        "Set",
        "Worker",
        "SharedWorker",
        "importScripts",
        "unescape",
        "escape",
        "decodeURIComponent",
        "decodeURI",
        "parseInt",
        "parseFloat",
        "navigator",
        "document",
        "location",
        "localStorage",
        "Deno",
        "Bun",
        "AsyncFunction",
        "GeneratorFunction",
        "TextDecoder",
        "TextEncoder",
        "Uint8Array",
        "execScript",
        "Math",
        "Date",
        "Blob",
        "URL",
        "__non_webpack_require__",
        "__dirname",
        "__filename",
        "console",
    ]
)
FUNCTION_BUILDERS = frozenset({"Function", "AsyncFunction", "GeneratorFunction", "AsyncGeneratorFunction"})
CODE_SINKS = frozenset({"eval", "execScript", *FUNCTION_BUILDERS}) | frozenset(
    [
        "module:vm.runInThisContext",
        "module:vm.runInNewContext",
        "module:vm.runInContext",
        "module:vm.Script",
        "module:vm.compileFunction",
        "module:vm.SourceTextModule",
        "module:vm.createScript",
        "module:module.prototype._compile",
        "module:module._compile",
        "module._compile",
        "importScripts",
        "module:vm2.run",
        "Deno.core.evalContext",
    ]
)
TIMERS = frozenset(
    {"setTimeout", "setInterval", "setImmediate", "module:timers.setTimeout", "module:timers.setInterval"}
)
IMPORT_SINKS = frozenset(
    [
        "require", "import", "module.require", "module:module.createRequire()",
        "process.mainModule.require", "require.main.require", "module:module._load",
        "module.constructor._load", "module:module.Module._load", "module.children.require",
        "process.getBuiltinModule", "module.parent.require", "__non_webpack_require__", "require.resolve"
    ]
) - {"require.resolve"}  # fmt: skip
PROCESS_CALLS = frozenset(
    f"module:child_process.{name}" for name in [
        "exec", "execSync", "execFile", "execFileSync", "spawn", "spawnSync", "fork", "_forkChild"
    ]
) | {"module:cluster.fork", "Deno.run", "Bun.spawn", "Bun.spawnSync", "process.kill", "module:node-pty.spawn", "module:execa", "module:cross-spawn", "module:shelljs.exec"}  # fmt: skip  # noqa: E501
INTERNALS = frozenset(
    [
        "process.binding", "process._linkedBinding", "process.dlopen", "process.internalBinding",
        "process.reallyExit", "process._debugProcess", "process._startProfilerIdleNotifier",
        "process.moduleLoadList", "process._getActiveHandles"
    ]
) - {"process.reallyExit", "process._getActiveHandles"}  # fmt: skip
MODULE_INTERNALS = frozenset(
    [
        "module:module._load",
        "module:module._resolveFilename",
        "module:module._extensions",
        "module:module.prototype",
        "module:module._compile",
        "module:module.Module",
        "module:module.wrap",
        "module:module.wrapper",
        "module:module._cache",
        "module:module.register",
        "module:module.registerHooks",
        "require.cache",
        "require.extensions",
        "module.constructor",
        "process.mainModule",
        "require.main.constructor",
        "module:module.prototype.require",
        "module.constructor._load",
        "module:module._nodeModulePaths",
        "module:module._initPaths",
        "module:module._preloadModules",
        "module:module.syncBuiltinESMExports",
    ]
)
MODULE_CAPABILITIES: dict[str, Capability] = {
    **dict.fromkeys(
        [
            "fs", "fs/promises", "graceful-fs", "fs-extra", "rimraf", "glob", "mkdirp", "chokidar", "tmp",
            "del", "sqlite", "node:sqlite", "sqlite3", "better-sqlite3"
        ],
        Capability.FILESYSTEM,
    ),
    **dict.fromkeys(
        [
            "net", "tls", "http", "https", "http2", "dns", "dns/promises", "dgram", "axios", "node-fetch",
            "got", "request", "ws", "undici", "superagent", "socket.io", "socket.io-client", "ftp",
            "ssh2", "nodemailer", "needle", "phin", "mongodb", "redis", "pg", "mysql", "mysql2",
            "ioredis", "bent", "cross-fetch", "websocket", "inspector", "ky", "puppeteer", "playwright",
            "nats", "amqplib", "kafkajs", "isomorphic-fetch", "follow-redirects"
        ],
        Capability.NETWORK,
    ),
    **dict.fromkeys([
        "child_process", "cluster", "execa", "cross-spawn", "shelljs", "node-pty", "zx"
    ], Capability.PROCESS),
    **dict.fromkeys(["worker_threads", "piscina", "workerpool", "threads"], Capability.THREAD),
    **dict.fromkeys([
        "ffi-napi", "ref-napi", "koffi", "bindings", "node-gyp-build", "node-addon-api", "nan", "ffi"
    ], Capability.NATIVE),
    **dict.fromkeys(["vm", "vm2", "isolated-vm", "repl"], Capability.DYNAMIC_CODE),
    **dict.fromkeys(["node-serialize", "serialize-to-js", "funcster", "v8", "cryo"], Capability.DESERIALISATION),  # noqa: E501
    "dotenv": Capability.ENVIRONMENT,
}  # fmt: skip
GLOBAL_CAPABILITIES: dict[str, Capability] = {
    "fetch": Capability.NETWORK, "XMLHttpRequest": Capability.NETWORK, "WebSocket": Capability.NETWORK,
    "EventSource": Capability.NETWORK, "navigator.sendBeacon": Capability.NETWORK, "process.env": Capability.ENVIRONMENT,  # noqa: E501
    "WebAssembly": Capability.NATIVE, "Worker": Capability.THREAD, "eval": Capability.DYNAMIC_CODE,
    "Function": Capability.DYNAMIC_CODE, "process.dlopen": Capability.NATIVE,
}  # fmt: skip
SENSITIVE_MODULES = frozenset(
    [
        "child_process",
        "fs",
        "fs/promises",
        "net",
        "http",
        "https",
        "http2",
        "tls",
        "dgram",
        "dns",
        "vm",
        "worker_threads",
        "module",
        "process",
        "os",
        "cluster",
        "v8",
        "inspector",
        "repl",
    ]
)
CALL_ORIGINS: dict[str, int] = {
    "atob": Origin.DECODED, "unescape": Origin.DECODED, "String.fromCharCode": Origin.CHARACTERS,
    "String.fromCodePoint": Origin.CHARACTERS, "TextDecoder": Origin.CHARACTERS, "Uint8Array.from": Origin.CHARACTERS,  # noqa: E501
    **dict.fromkeys(("module:zlib." + name for name in
        [
            "inflateSync", "gunzipSync", "unzipSync", "brotliDecompressSync", "inflateRawSync", "inflate",
            "gunzip", "unzip", "brotliDecompress", "inflateRaw", "zstdDecompressSync"
        ]), Origin.DECODED),
    **dict.fromkeys(("module:crypto." + name for name in ["createDecipheriv", "createDecipher", "privateDecrypt", "publicDecrypt"]), Origin.DECODED),  # noqa: E501
    "module:lz-string.decompress": Origin.DECODED, "module:lz-string.decompressFromBase64": Origin.DECODED, "module:pako.inflate": Origin.DECODED,  # noqa: E501
    "process.env": Origin.ENVIRONMENT, "fetch": Origin.NETWORK, "XMLHttpRequest": Origin.NETWORK, "WebSocket": Origin.NETWORK,  # noqa: E501
    **{f"module:{module}": Origin.NETWORK for module in
       [
           "http", "https", "http2", "net", "tls", "dns", "dgram", "axios", "node-fetch", "got",
           "request", "undici", "ws", "needle", "superagent", "phin", "dns/promises"
       ]},
    **{f"module:{module}.{name}": Origin.FILE for module in ("fs", "fs/promises", "fs.promises", "graceful-fs", "fs-extra")  # noqa: E501
       for name in ("readFileSync", "readFile", "createReadStream", "readSync", "promises.readFile", "readdirSync")},  # noqa: E501
}  # fmt: skip
METHOD_ORIGINS: dict[str, int] = {
    "charCodeAt": Origin.CHARACTERS, "fromCharCode": Origin.CHARACTERS, "fromCodePoint": Origin.CHARACTERS,
    "codePointAt": Origin.CHARACTERS, "reverse": Origin.REVERSED, "toReversed": Origin.REVERSED, "reduceRight": Origin.REVERSED,  # noqa: E501
    "inflateSync": Origin.DECODED, "gunzipSync": Origin.DECODED, "brotliDecompressSync": Origin.DECODED, "inflateRawSync": Origin.DECODED,  # noqa: E501
    "createDecipheriv": Origin.DECODED, "getImageData": Origin.DECODED, "decompressFromBase64": Origin.DECODED,  # noqa: E501
}  # fmt: skip
# Members after a dot that make a call worth a look even when the object is unknown.
TELLING_MEMBERS = frozenset(
    [
        "eval",
        "Function",
        "constructor",
        "require",
        "_load",
        "_compile",
        "binding",
        "_linkedBinding",
        "dlopen",
        "runInThisContext",
        "runInNewContext",
        "runInContext",
        "compileFunction",
        "exec",
        "execSync",
        "execFile",
        "execFileSync",
        "spawn",
        "spawnSync",
        "fork",
        "call",
        "apply",
        "bind",
        "construct",
        "get",
        "set",
        "defineProperty",
        "getOwnPropertyDescriptor",
        "setPrototypeOf",
        "assign",
        "fromCharCode",
        "toString",
        "from",
        "getBuiltinModule",
        "createRequire",
        "register",
        "registerHooks",
        "then",
        "map",
        "forEach",
        "reduce",
        "filter",
        "find",
        "some",
        "every",
        "replace",
        "replaceAll",
        "import",
        "setTimeout",
        "setInterval",
        "instantiate",
        "compile",
        "Module",
        "runMain",
        "sendBeacon",
        "fetch",
        "getOwnPropertyNames",
        "parse",
        "stringify",
        "keys",
        "entries",
        "values",
        "raw",
        "__defineGetter__",
        "__defineSetter__",
        "Script",
        "on",
        "once",
        "unserialize",
        "deserialize",
        "compileStreaming",
        "createContext",
        "evaluate",
        "writeFileSync",
        "writeFile",
        "runIn",
        "run",
        "unescape",
        "atob",
        "decode",
        "inflateSync",
        "gunzipSync",
        "brotliDecompressSync",
        "inflateRawSync",
        "unzipSync",
    ]
)
TELLING_PROPERTIES = frozenset(
    [
        "constructor",
        "__proto__",
        "mainModule",
        "binding",
        "_linkedBinding",
        "dlopen",
        "env",
        "cache",
        "extensions",
        "_load",
        "_compile",
        "_extensions",
        "prepareStackTrace",
        "getBuiltinModule",
        "prototype",
        "_resolveFilename",
        "wrap",
        "callee",
        "caller",
        "wrapper",
        "__defineGetter__",
    ]
)
