"""Which dotted names of Python do what."""

import builtins
import sys

from activities.scanning.findings import Origin
from models.manifest import Capability

BUILTIN_NAMES = frozenset(dir(builtins)) | {
    "unicode",
    "unichr",
    "execfile",
    "raw_input",
    "reload",
    "long",
    "xrange",
}
STDLIB = frozenset(sys.stdlib_module_names)

# One module under several names.
MODULE_ALIASES = {
    "posix": "os", "nt": "os", "__builtin__": "builtins", "__builtins__": "builtins", "_io": "io", "_socket": "socket",  # noqa: E501
    "cPickle": "pickle", "_pickle": "pickle", "_thread": "threading", "_ctypes": "ctypes", "six.moves.builtins": "builtins",  # noqa: E501
    "posixpath": "os.path", "ntpath": "os.path", "_codecs": "codecs", "_operator": "operator", "_functools": "functools",  # noqa: E501
    "_frozen_importlib": "importlib._bootstrap", "_frozen_importlib_external": "importlib._bootstrap_external",  # noqa: E501
    "_posixsubprocess": "subprocess", "_winapi": "subprocess", "six.moves.cPickle": "pickle", "requests.api": "requests",  # noqa: E501
}  # fmt: skip

CODE_SINKS = frozenset(
    [
        "builtins.exec", "builtins.eval", "builtins.compile", "builtins.execfile", "code.interact",
        "code.InteractiveInterpreter", "code.InteractiveConsole", "codeop.compile_command",
        "codeop.CommandCompiler", "timeit.timeit", "timeit.repeat", "timeit.Timer", "cProfile.run",
        "cProfile.runctx", "profile.run", "profile.runctx", "pdb.run", "pdb.runeval", "pdb.runcall",
        "bdb.Bdb.run", "trace.Trace", "doctest.run_docstring_examples", "doctest.DocTestParser",
        "doctest.testmod", "doctest.script_from_examples", "types.FunctionType", "types.CodeType",
        "types.LambdaType", "builtins.__build_class__", "six.exec_", "future.utils.exec_",
        "test.support.run_code", "unittest.mock._importer", "pandas.eval", "numexpr.evaluate",
        "sympy.sympify", "sympy.parse_expr", "execjs.eval", "js2py.eval_js", "IPython.embed",
        "IPython.start_ipython", "concurrent.interpreters.create", "_xxsubinterpreters.run_string",
        "_interpreters.exec", "_interpreters.run_string", "logging.config.listen", "cffi.FFI.verify",
        "numpy.f2py.compile", "idlelib.run.runcode", "tkinter.Tcl", "_testcapi.run_in_subinterp",
        "ast.unparse"
    ]
) - {"ast.unparse"}  # fmt: skip
# Only executed when the first argument is text; with anything else these are ordinary.
TEXT_RUNNERS = frozenset(
    [
        "timeit.timeit",
        "timeit.repeat",
        "timeit.Timer",
        "cProfile.run",
        "cProfile.runctx",
        "profile.run",
        "profile.runctx",
        "pdb.run",
        "pdb.runeval",
        "pandas.eval",
        "numexpr.evaluate",
        "types.FunctionType",
        "types.CodeType",
        "types.LambdaType",
        "doctest.testmod",
        "builtins.compile",
        "logging.config.listen",
        "trace.Trace",
        "code.interact",
        "tkinter.Tcl",
    ]
)
CODE_METHODS = frozenset(
    {"runsource", "runcode", "runeval", "exec_module", "load_module", "run_string", "run_cell"}
)
IMPORT_SINKS = frozenset(
    [
        "builtins.__import__",
        "importlib.import_module",
        "importlib.__import__",
        "importlib._bootstrap._gcd_import",
        "importlib._bootstrap._load",
        "importlib._bootstrap._find_and_load",
        "importlib._bootstrap.__import__",
        "pydoc.locate",
        "pydoc.safeimport",
        "pkgutil.resolve_name",
        "pkgutil.find_loader",
        "importlib.find_loader",
        "imp.load_module",
        "imp.find_module",
        "imp.load_source",
        "imp.load_dynamic",
        "imp.load_compiled",
        "runpy.run_module",
        "runpy._run_module_code",
        "runpy.run_path",
        "importlib.machinery.SourceFileLoader",
        "importlib.machinery.SourcelessFileLoader",
        "importlib.machinery.ExtensionFileLoader",
        "importlib.util.spec_from_file_location",
        "importlib.util.spec_from_loader",
        "importlib.util.find_spec",
        "zipimport.zipimporter",
        "importlib.reload",
        "unittest.mock._importer",
        "test.support.import_helper.import_module",
        "django.utils.module_loading.import_string",
        "werkzeug.utils.import_string",
    ]
)
PATH_LOADERS = frozenset(
    [
        "imp.load_source",
        "imp.load_dynamic",
        "imp.load_compiled",
        "runpy.run_path",
        "zipimport.zipimporter",
        "importlib.machinery.SourceFileLoader",
        "importlib.machinery.SourcelessFileLoader",
        "importlib.machinery.ExtensionFileLoader",
        "importlib.util.spec_from_file_location",
    ]
)
MODULE_GETTERS = frozenset(
    [
        "builtins.__import__",
        "importlib.import_module",
        "importlib.__import__",
        "importlib._bootstrap._gcd_import",
        "pydoc.locate",
        "importlib._bootstrap.__import__",
        "importlib._bootstrap._find_and_load",
        "pydoc.safeimport",
        "pkgutil.resolve_name",
        "imp.load_module",
        "test.support.import_helper.import_module",
        "unittest.mock._importer",
    ]
)
GETATTR = frozenset(
    [
        "builtins.getattr",
        "inspect.getattr_static",
        "object.__getattribute__",
        "type.__getattribute__",
        "builtins.object.__getattribute__",
        "builtins.type.__getattribute__",
        "types.ModuleType.__getattribute__",
        "operator.getitem",
        "builtins.dict.get",
        "builtins.dict.__getitem__",
        "_operator.getitem",
    ]
)
PROCESS_CALLS = frozenset(
    [
        "os.system",
        "os.popen",
        "os.popen2",
        "os.popen3",
        "os.popen4",
        "os.startfile",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.posix_spawnp",
        "os.execl",
        "os.execle",
        "os.execlp",
        "os.execlpe",
        "os.execv",
        "os.execve",
        "os.execvp",
        "os.execvpe",
        "os.spawnl",
        "os.spawnle",
        "os.spawnlp",
        "os.spawnlpe",
        "os.spawnv",
        "os.spawnve",
        "os.spawnvp",
        "os.spawnvpe",
        "pty.spawn",
        "pty.fork",
        "commands.getoutput",
        "commands.getstatusoutput",
        "platform.popen",
        "asyncio.create_subprocess_shell",
        "asyncio.create_subprocess_exec",
        "asyncio.subprocess.create_subprocess_shell",
        "asyncio.subprocess.create_subprocess_exec",
        "distutils.spawn.spawn",
        "webbrowser.open",
        "webbrowser.get",
        "anyio.run_process",
        "anyio.open_process",
        "trio.run_process",
        "os.kill",
        "os.killpg",
        "subprocess.fork_exec",
    ]
)
STRONG_TARGETS = (
    (PROCESS_CALLS - {"os.kill", "os.killpg", "webbrowser.open", "webbrowser.get"})
    | {"builtins.exec", "builtins.eval", "builtins.compile", "builtins.__import__", "builtins.execfile"}
    | {"subprocess." + name for name in ("Popen", "call", "run", "check_output", "check_call", "getoutput")}
    | {"subprocess.getstatusoutput", "ctypes.CDLL", "socket.socket", "pickle.loads", "marshal.loads"}
)
# Modules whose very import means a capability.
MODULE_CAPABILITIES: dict[str, Capability] = {
    **dict.fromkeys([
        "subprocess", "pty", "commands", "multiprocessing", "pexpect", "sh", "plumbum", "fabric", "invoke"
    ], Capability.PROCESS),
    **dict.fromkeys(
        [
            "socket", "ssl", "http.client", "http.server", "httplib", "urllib.request", "urllib2",
            "ftplib", "smtplib", "poplib", "imaplib", "nntplib", "telnetlib", "xmlrpc", "socketserver",
            "requests", "urllib3", "httpx", "aiohttp", "websocket", "websockets", "paramiko", "pycurl",
            "httplib2", "tornado", "twisted", "boto3", "botocore", "scapy", "dns", "smtpd", "asyncore",
            "asynchat", "grpc", "zmq", "pika", "redis", "pymongo", "psycopg", "psycopg2", "treq",
            "wsgiref", "uvicorn", "nturl2path", "niquests", "curl_cffi", "tls_client", "aiodns",
            "aioquic", "h2", "h11", "telnetlib3", "irc"
        ],
        Capability.NETWORK,
    ),
    **dict.fromkeys(["threading", "concurrent.futures", "greenlet", "gevent", "eventlet"], Capability.THREAD),
    **dict.fromkeys([
        "ctypes", "cffi", "_cffi_backend", "llvmlite", "pythonnet", "clr", "jpype"
    ], Capability.NATIVE),
    **dict.fromkeys([
        "pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "joblib"
    ], Capability.DESERIALISATION),
    **dict.fromkeys([
        "shutil", "tempfile", "glob", "fileinput", "pathlib2", "sqlite3", "dbm", "zipfile", "tarfile"
    ], Capability.FILESYSTEM),
    **dict.fromkeys(["code", "codeop", "runpy", "imp", "zipimport"], Capability.DYNAMIC_CODE),
    "dotenv": Capability.ENVIRONMENT,
}  # fmt: skip
CALL_CAPABILITIES: dict[str, Capability] = {
    **dict.fromkeys(PROCESS_CALLS, Capability.PROCESS),
    **dict.fromkeys(
        [
            "builtins.open", "io.open", "os.open", "os.remove", "os.unlink", "os.rmdir", "os.removedirs",
            "os.rename", "os.replace", "os.mkdir", "os.makedirs", "os.listdir", "os.scandir", "os.walk",
            "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate", "os.utime", "os.fdopen",
            "os.readlink", "os.mkfifo", "codecs.open", "io.FileIO", "linecache.getlines",
            "linecache.getline", "pkgutil.get_data", "mmap.mmap", "importlib.resources.files",
            "importlib.resources.read_text", "importlib.resources.open_text", "numpy.load",
            "numpy.fromfile", "os.memfd_create", "pathlib.Path.open", "pathlib.Path.write_text",
            "pathlib.Path.read_text"
        ],
        Capability.FILESYSTEM,
    ),
    **dict.fromkeys(
        [
            "os.environ", "os.getenv", "os.putenv", "os.environb", "os.getenvb", "os.unsetenv",
            "decouple.config"
        ], Capability.ENVIRONMENT
    ),
    **dict.fromkeys(
        [
            "asyncio.open_connection", "asyncio.start_server", "asyncio.open_unix_connection",
            "asyncio.start_unix_server", "ensurepip.bootstrap", "pip.main", "pip._internal.main"
        ],
        Capability.NETWORK,
    ),
    **dict.fromkeys(
        [
            "yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "yaml.unsafe_load_all",
            "torch.load", "pandas.read_pickle", "numpy.lib.format.read_array"
        ],
        Capability.DESERIALISATION,
    ),
    **dict.fromkeys(CODE_SINKS - TEXT_RUNNERS, Capability.DYNAMIC_CODE),
    "builtins.compile": Capability.DYNAMIC_CODE,
}  # fmt: skip
FILE_METHODS = frozenset(
    ["read_text", "read_bytes", "write_text", "write_bytes", "unlink", "rmdir", "iterdir", "rglob"]
)
DESERIALISERS = frozenset(
    [
        "pickle.loads",
        "pickle.load",
        "pickle.Unpickler",
        "marshal.loads",
        "marshal.load",
        "shelve.open",
        "dill.loads",
        "dill.load",
        "cloudpickle.loads",
        "cloudpickle.load",
        "jsonpickle.decode",
        "jsonpickle.loads",
        "joblib.load",
        "yaml.unsafe_load",
        "yaml.load",
        "yaml.full_load",
        "torch.load",
        "pandas.read_pickle",
        "yaml.unsafe_load_all",
    ]
)
DECODERS: dict[str, str] = {
    **{f"base64.{name}": "base64" for name in
       [
           "b64decode", "urlsafe_b64decode", "standard_b64decode", "decodebytes", "decodestring",
           "b32decode", "b32hexdecode", "b16decode", "b85decode", "a85decode", "decode"
       ]},
    **{f"binascii.{name}": "binascii" for name in [
        "unhexlify", "a2b_hex", "a2b_base64", "a2b_uu", "a2b_qp", "rlecode_hqx"
    ]},
    **{f"{module}.decompress": module for module in [
        "zlib", "gzip", "bz2", "lzma", "brotli", "zstandard", "snappy", "lz4.frame", "compression.zstd"
    ]},
    "zlib.decompressobj": "zlib", "gzip.GzipFile": "gzip", "bz2.BZ2Decompressor": "bz2", "lzma.LZMADecompressor": "lzma",  # noqa: E501
    "codecs.decode": "codecs", "codecs.getdecoder": "codecs", "codecs.escape_decode": "codecs", "codecs.unicode_escape_decode": "codecs",  # noqa: E501
    "codecs.lookup": "codecs", "builtins.bytes.fromhex": "hex", "builtins.bytearray.fromhex": "hex", "quopri.decodestring": "quopri",  # noqa: E501
    "uu.decode": "uu", "marshal.loads": "marshal", "cryptography.fernet.Fernet": "fernet", "base58.b58decode": "base58",  # noqa: E501
    "pyDes.des": "des", "codecs.encode": "codecs", "email.base64mime.decode": "base64", "email.quoprimime.decode": "quopri",  # noqa: E501
}  # fmt: skip
DECODER_METHODS = frozenset(
    ["fromhex", "b64decode", "unhexlify", "decompress", "decrypt", "a2b_base64", "b58decode"]
)
TEXT_CODECS = frozenset(
    [
        "rot13", "rot_13", "hex", "hex_codec", "base64", "base64_codec", "zlib", "zlib_codec", "zip",
        "bz2", "bz2_codec", "uu", "uu_codec", "unicode_escape", "raw_unicode_escape", "unicode-escape",
        "string_escape", "punycode", "idna", "utf_7", "utf-7", "utf7", "quopri", "quopri_codec", "cp037",
        "utf-16", "utf-16-le", "utf-16-be", "utf16", "utf-32", "utf_16", "cp500"
    ]
) - {"idna", "utf-16", "utf-16-le", "utf-16-be", "utf16", "utf-32", "utf_16"}  # fmt: skip

CALL_ORIGINS: dict[str, int] = {
    **dict.fromkeys(DECODERS.keys() - {"codecs.decode", "codecs.encode", "codecs.lookup"}, Origin.DECODED),
    "inspect.getsource": Origin.DECODED, "inspect.getdoc": Origin.DECODED,
    "inspect.getcomments": Origin.DECODED,
    "builtins.input": Origin.INPUT, "sys.stdin": Origin.INPUT, "sys.argv": Origin.INPUT,
    "builtins.chr": Origin.CHARACTERS, "builtins.unichr": Origin.CHARACTERS, "operator.xor": Origin.ARITHMETIC,  # noqa: E501
    "builtins.reversed": Origin.REVERSED, "struct.pack": Origin.CHARACTERS, "array.array": Origin.CHARACTERS,
    "builtins.open": Origin.FILE, "io.open": Origin.FILE, "codecs.open": Origin.FILE, "pkgutil.get_data": Origin.FILE,  # noqa: E501
    "pathlib.Path": Origin.FILE, "importlib.resources.read_text": Origin.FILE, "importlib.resources.files": Origin.FILE,  # noqa: E501
    "linecache.getline": Origin.FILE, "linecache.getlines": Origin.FILE, "tokenize.open": Origin.FILE,
    "PIL.Image.open": Origin.DECODED, "wave.open": Origin.DECODED, "os.getenv": Origin.ENVIRONMENT, "os.environ": Origin.ENVIRONMENT,  # noqa: E501
    "zipfile.ZipFile": Origin.FILE, "json.load": Origin.FILE, "builtins.str.maketrans": Origin.ARITHMETIC,
    "dns.resolver.resolve": Origin.NETWORK, "dns.resolver.query": Origin.NETWORK, "socket.socket": Origin.NETWORK,  # noqa: E501
    "socket.create_connection": Origin.NETWORK, "urllib.request.urlopen": Origin.NETWORK, "urllib.request.urlretrieve": Origin.NETWORK,  # noqa: E501
    "urllib2.urlopen": Origin.NETWORK, "http.client.HTTPSConnection": Origin.NETWORK, "http.client.HTTPConnection": Origin.NETWORK,  # noqa: E501
    "urllib3.PoolManager": Origin.NETWORK, "aiohttp.ClientSession": Origin.NETWORK, "aiohttp.request": Origin.NETWORK,  # noqa: E501
    "asyncio.open_connection": Origin.NETWORK, "ftplib.FTP": Origin.NETWORK, "websocket.create_connection": Origin.NETWORK,  # noqa: E501
    "websockets.connect": Origin.NETWORK, "xmlrpc.client.ServerProxy": Origin.NETWORK,
    "cryptography.fernet.Fernet": Origin.DECODED, "functools.reduce": Origin.NONE,
    **{f"{module}.{verb}": Origin.NETWORK for module in ("requests", "httpx")
       for verb in ("get", "post", "put", "request", "Session", "session", "Client", "AsyncClient", "stream")},  # noqa: E501
}  # fmt: skip
METHOD_ORIGINS: dict[str, int] = {
    **dict.fromkeys(DECODER_METHODS, Origin.DECODED),
    "urlopen": Origin.NETWORK, "recv": Origin.NETWORK, "getresponse": Origin.NETWORK, "recvfrom": Origin.NETWORK,  # noqa: E501
    "to_bytes": Origin.CHARACTERS, "substitute": Origin.INPUT, "safe_substitute": Origin.INPUT, "read_text": Origin.FILE, "read_bytes": Origin.FILE, "translate": Origin.ARITHMETIC, "getpixel": Origin.DECODED,  # noqa: E501
    "getdata": Origin.DECODED, "readframes": Origin.DECODED, "get_distribution": Origin.FILE,
}  # fmt: skip
# Results that carry nothing of their arguments.
OPAQUE_CALLS = frozenset(
    [
        "builtins.len",
        "builtins.isinstance",
        "builtins.hasattr",
        "builtins.issubclass",
        "builtins.id",
        "builtins.hash",
        "builtins.bool",
        "builtins.callable",
        "builtins.type",
    ]
)
SMUGGLED = frozenset(
    [
        "os",
        "sys",
        "subprocess",
        "builtins",
        "importlib",
        "ctypes",
        "socket",
        "pty",
        "runpy",
        "marshal",
        "pickle",
    ]
)
FRAME_ATTRIBUTES = frozenset(
    ["gi_frame", "cr_frame", "ag_frame", "f_builtins", "f_back", "tb_frame", "f_globals", "f_locals"]
)
HOOK_LISTS = frozenset(["sys.meta_path", "sys.path_hooks", "sys.path_importer_cache"])
