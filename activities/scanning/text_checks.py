"""What a plain or decoded text gives away: commands, paths, addresses, sensitive names."""

import re

# Names that no honest code needs to hide. Exact matches of folded values.
SENSITIVE_NAMES = frozenset(
    [
        "eval",
        "exec",
        "execfile",
        "compile",
        "__import__",
        "__builtins__",
        "__globals__",
        "__subclasses__",
        "__class__",
        "__bases__",
        "__base__",
        "__mro__",
        "__code__",
        "__loader__",
        "builtins",
        "importlib",
        "import_module",
        "subprocess",
        "popen",
        "Popen",
        "system",
        "os.system",
        "check_output",
        "check_call",
        "getoutput",
        "posix_spawn",
        "execv",
        "execve",
        "execvp",
        "spawnl",
        "spawnv",
        "fork",
        "ctypes",
        "CDLL",
        "socket",
        "create_connection",
        "pickle",
        "marshal",
        "urllib",
        "urllib.request",
        "urlopen",
        "requests",
        "base64",
        "b64decode",
        "os",
        "sys",
        "pty",
        "shutil",
        "runpy",
        "environ",
        "getenv",
        "child_process",
        "node:child_process",
        "execSync",
        "spawn",
        "spawnSync",
        "execFile",
        "execFileSync",
        "Function",
        "constructor",
        "AsyncFunction",
        "GeneratorFunction",
        "fs",
        "node:fs",
        "fs/promises",
        "node:fs/promises",
        "net",
        "node:net",
        "dgram",
        "tls",
        "http",
        "https",
        "node:http",
        "node:https",
        "http2",
        "dns",
        "node:dns",
        "vm",
        "node:vm",
        "worker_threads",
        "node:worker_threads",
        "cluster",
        "module",
        "node:module",
        "v8",
        "inspector",
        "node:inspector",
        "process",
        "mainModule",
        "binding",
        "_linkedBinding",
        "dlopen",
        "_load",
        "_compile",
        "require",
        "createRequire",
        "getBuiltinModule",
        "globalThis",
        "global",
        "window",
        "setTimeout",
        "setInterval",
        "fromCharCode",
        "atob",
        "__proto__",
        "prepareStackTrace",
        "runInThisContext",
        "runInNewContext",
        "runInContext",
        "readFileSync",
        "writeFileSync",
        "readFile",
        "writeFile",
        "rmSync",
        "unlinkSync",
        "fetch",
        "XMLHttpRequest",
        "WebSocket",
        "WebAssembly",
        "Reflect",
        "Proxy",
        "Buffer",
        "process.env",
        "env",
        "import",
        "exec(",
        "eval(",
        "Deno",
        "Bun",
    ]
)
# Names so telling that a split literal of them is a finding even away from any sink.
TELLING_NAMES = frozenset(
    [
        "__import__",
        "__builtins__",
        "__subclasses__",
        "__globals__",
        "child_process",
        "node:child_process",
        "os.system",
        "subprocess",
        "execSync",
        "spawnSync",
        "execFileSync",
        "import_module",
        "mainModule",
        "_linkedBinding",
        "getBuiltinModule",
        "b64decode",
        "fromCharCode",
        "runInThisContext",
        "runInNewContext",
        "worker_threads",
        "node:worker_threads",
        "check_output",
        "constructor",
        "execfile",
        "builtins",
    ]
)

_DANGEROUS_COMMAND = re.compile(
    r"""(?:curl|wget|fetch|lwp-download)\b[^\n|;]{0,300}\|\s*(?:sudo\s+)?(?:ba|z|da|k)?sh\b
    |(?:curl|wget)\b[^\n|]{0,300}\|\s*(?:sudo\s+)?(?:python[23]?|perl|node|ruby|php)\b
    |(?:curl|wget)\b[^\n]{0,300}(?:&&|;)\s*(?:sudo\s+)?(?:chmod\s|(?:ba|z|da)?sh\s|python[23]?\s|node\s|\./)
    |(?:ba|z)?sh\s+-c\s+["']?\$\((?:curl|wget)|(?:ba)?sh\s+<\(\s*(?:curl|wget)
    |/dev/(?:tcp|udp)/[\w.$-]+/
    |\bnc(?:at)?\b[^\n;|]{0,80}\s-\w*[ec]\b|\bncat\b[^\n]{0,80}--(?:exec|sh-exec)\b|\bsocat\b[^\n]{0,120}\bexec:
    |\b(?:ba|z)?sh\s+-i\b[^\n]{0,40}(?:>&|<|\|)|\bmkfifo\b[^\n]{0,120}\bnc\b
    |base64\s+(?:-d|--decode|-D)\b[^\n]{0,120}\|\s*(?:ba|z|da)?sh\b|base64\s+(?:-d|--decode|-D)[^\n|]{0,80}\|\s*(?:python|node|perl|bash)
    |echo\s+[A-Za-z0-9+/=]{24,}\s*\|\s*base64
    |powershell(?:\.exe)?\b[^\n]{0,160}(?:-e(?:nc(?:odedcommand)?)?\s+[A-Za-z0-9+/=]{16,}|downloadstring|iex\b|-w(?:indowstyle)?\s+h)
    |\b(?:IEX|Invoke-Expression)\b\s*[\($]|certutil(?:\.exe)?\b[^\n]{0,80}-urlcache|bitsadmin\b[^\n]{0,80}/transfer
    |mshta(?:\.exe)?\s+(?:https?|javascript|vbscript):|regsvr32\b[^\n]{0,80}/i:http|rundll32\b[^\n]{0,60}javascript:
    |rm\s+-\w*[rf]\w*\s+(?:--no-preserve-root\s+)?(?:/(?:\s|$|\*)|~(?:/\s|\s|$)|\$HOME)|\bmkfs\.\w+\s+/dev/|dd\s+if=/dev/(?:zero|random|urandom)\s+of=/dev/
    |:\(\)\s*\{\s*:\|:&\s*\};:|\bcrontab\s+(?:-|/)|>>?\s*~?/?[\w/.~$]*(?:\.bashrc|\.profile|\.zshrc|authorized_keys|/etc/cron|/etc/passwd|ld\.so\.preload)
    |\bstratum\+tcp://|\bxmrig\b|\bminerd\b|\bLD_PRELOAD=\S|\bnsenter\b[^\n]{0,40}-t\s*1\b|docker\s+run[^\n]{0,120}(?:--privileged|-v\s+/:)
    |\bcurl\b[^\n]{0,200}(?:-d|--data(?:-binary)?|-F|-T|--upload-file)\s*@?["']?[^\n]{0,60}(?:\$\(|`|/etc/passwd|\.ssh|\.aws|\.npmrc|\.env\b)
    |\b(?:printenv|env)\s*\|\s*(?:curl|nc|wget|base64)""",
    re.VERBOSE | re.IGNORECASE,
)
_INLINE_INTERPRETER = re.compile(
    r"\b(?:python[23]?|node|perl|ruby|php|deno|bun)\d*(?:\.exe)?\s+(?:-\w+\s+)*(?:-c|-e|--eval|-r|-p|--print)\s*[\"']?\S",
    re.IGNORECASE,
)
_SENSITIVE_PATH = re.compile(
    r"""(?:^|[/~\\"'\s])\.(?:ssh[/\\](?:id_|authorized_keys|known_hosts)|aws[/\\]credentials|kube[/\\]config|docker[/\\]config\.json
    |git-credentials\b|gnupg[/\\]|bash_history\b|zsh_history\b|electrum\b|bitcoin[/\\]|ethereum[/\\]keystore|solana[/\\]id\.json|config[/\\]gcloud|vault-token\b)
    |/etc/(?:shadow|sudoers|ld\.so\.preload|cron\.d|crontab)\b|/root/\.|/proc/(?:self|\d+|1)/(?:environ|mem|maps|root|fd/)|/var/run/docker\.sock|/run/docker\.sock
    |/var/run/secrets/kubernetes|\bwallet\.dat\b|Login\ Data\b|Local\ Storage[/\\]leveldb|\bkey[34]\.db\b|logins\.json\b
    |nkbihfbeogaeaoehlefnkodbefgpgknn|User\ Data[/\\]Default|AppData[/\\](?:Roaming|Local)[/\\](?:Mozilla|Google|Discord|discord|Exodus|atomic)
    |/sys/(?:fs/cgroup|kernel)/\S*release_agent""",  # noqa: E501
    re.VERBOSE,
)
_EXFILTRATION_HOST = re.compile(
    r"""\b(?:discord(?:app)?\.com/api/webhooks/|api\.telegram\.org/bot|webhook\.site|pipedream\.net|requestbin\.\w+|ngrok(?:-free)?\.(?:io|app)
    |burpcollaborator\.net|oastify\.com|oast\.(?:pro|live|site|online|fun|me)|interact\.sh|dnslog\.cn|ceye\.io|transfer\.sh|anonfiles\.com|gofile\.io
    |pastebin\.com/raw|paste\.ee/r|hastebin\.com/raw|rentry\.co/\w+/raw|termbin\.com|file\.io\b|0x0\.st|ipinfo\.io/json|api\.ipify\.org|trycloudflare\.com
    |beeceptor\.com|hookb\.in|canarytokens\.com|\.onion\b)""",
    re.VERBOSE | re.IGNORECASE,
)
_METADATA_ADDRESS = re.compile(
    r"\b169\.254\.169\.254\b|metadata\.google\.internal|\b0xa9fea9fe\b|\[?fd00:ec2::254|\b2852039166\b|\b100\.100\.100\.200\b",
    re.IGNORECASE,
)
_URL = re.compile(r"(?:https?|wss?|ftps?|tcp|udp)://[^\s\"'<>]{4,}", re.IGNORECASE)
_IP_LITERAL = re.compile(r"^(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?(?:/\S*)?$")
_HOST_NAME = re.compile(
    r"^(?:[a-z0-9-]{1,63}\.){1,5}(?:com|net|org|io|xyz|top|ru|cn|info|biz|site|online|dev|app|me|cc|pw|tk|su|to)(?::\d+)?(?:/\S*)?$"
)

PYTHON_CODE = re.compile(
    r"(?:^|[\n;])\s*(?:import\s+[\w.]+|from\s+[\w.]+\s+import\s|def\s+\w+\s*\(|class\s+\w+|exec\s*\(|print\s*\()"
    r"|__import__\s*\(|\bos\.(?:system|popen|environ)|\bsubprocess\.|\beval\s*\(|\bexec\s*\(|lambda\b[^\n]*:"
)
JAVASCRIPT_CODE = re.compile(
    r"\brequire\s*\(|\bimport\s*\(|=>|\bfunction\b\s*\w*\s*\(|\b(?:const|let|var)\s+[\w${\[]|\beval\s*\(|\bnew\s+Function\b"
    r"|\bprocess\.\w|\bconsole\.\w+\(|\bglobalThis\b|\bmodule\.exports\b|\bfetch\s*\(|\bimport\s+[\w{*'\"]"
)
SHELL_CODE = re.compile(
    r"^#!\s*/\S*\b(?:ba|da|z|k)?sh\b|(?:^|\n)\s*(?:curl|wget|chmod|sudo|bash|sh|nc|rm|crontab)\s+[-\w/.]",
    re.IGNORECASE,
)


# A plain substring search is fifty times faster than the expressions, and nearly always enough.
PATH_MARKS = (".ssh", ".aws", ".kube", ".docker", ".git-cred", ".gnupg", "_history", ".electrum", ".bitcoin", ".ethereum", ".solana",  # noqa: E501
               ".config/gcloud", ".vault-token", "/etc/", "/root/.", "/proc/", "docker.sock", "/secrets/kubernetes", "wallet.dat", "Login Data",  # noqa: E501
               "Local Storage", ".db", "logins.json", "nkbihf", "User Data", "AppData", "release_agent")  # fmt: skip  # noqa: E501
EXFILTRATION_MARKS = ("discord", "telegram", "webhook", "pipedream", "requestbin", "ngrok", "burpcollab", "oastify", "oast.", "interact.sh",  # noqa: E501
                       "dnslog", "ceye.io", "transfer.sh", "anonfiles", "gofile", "pastebin", "paste.ee", "hastebin", "rentry", "termbin",  # noqa: E501
                       "file.io", "0x0.st", "ipinfo", "ipify", "trycloudflare", "beeceptor", "hookb.in", "canarytokens", "githubusercontent",  # noqa: E501
                       ".onion")  # fmt: skip
METADATA_MARKS = (
    "169.254.169.254",
    "metadata.google",
    "a9fea9fe",
    "fd00:ec2",
    "2852039166",
    "100.100.100.200",
)


def _any_in(text: str, marks: tuple[str, ...]) -> bool:
    return any(mark in text for mark in marks)


def dangerous_command(text: str) -> str | None:
    """Return the dangerous part of a shell command, or None."""
    match = _DANGEROUS_COMMAND.search(text)
    return match.group(0)[:120] if match else None


def inline_interpreter(text: str) -> str | None:
    """Return the part of a command that starts an interpreter with inline code, or None."""
    match = _INLINE_INTERPRETER.search(text)
    return match.group(0)[:120] if match else None


def sensitive_path(text: str) -> str | None:
    """Return a path of credentials or of the host named in ``text``, or None."""
    if not _any_in(text, PATH_MARKS):
        return None
    match = _SENSITIVE_PATH.search(text)
    return match.group(0).strip()[:120] if match else None


def exfiltration_address(text: str) -> str | None:
    """Return an address often used for exfiltration named in ``text``, or None."""
    if not _any_in(text.lower(), EXFILTRATION_MARKS):
        return None
    match = _EXFILTRATION_HOST.search(text)
    return match.group(0)[:120] if match else None


def metadata_address(text: str) -> str | None:
    """Return the cloud metadata address named in ``text``, or None."""
    if not _any_in(text.lower(), METADATA_MARKS):
        return None
    match = _METADATA_ADDRESS.search(text)
    return match.group(0) if match else None


def looks_like_python(text: str) -> bool:
    """Whether ``text`` has a turn of phrase of Python code."""
    return PYTHON_CODE.search(text) is not None


def looks_like_javascript(text: str) -> bool:
    """Whether ``text`` has a turn of phrase of JavaScript code."""
    return JAVASCRIPT_CODE.search(text) is not None


def revealing(text: str) -> str | None:
    """Say why a decoded text is telling: a name, a command, a path, an address; None if it is not."""
    stripped = text.strip()
    if stripped in SENSITIVE_NAMES:
        return f"the name {stripped}"
    if dangerous_command(text):
        return "a command"
    if sensitive_path(text):
        return "a sensitive path"
    if _URL.search(text) and len(text) < 4_000:
        return "an address"
    if _IP_LITERAL.match(stripped) or _HOST_NAME.match(stripped):
        return "an address"
    if exfiltration_address(text) or metadata_address(text):
        return "an address"
    return None
