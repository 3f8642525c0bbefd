"""What the sandbox is asked to run, and what it reports back.

Sources: `docs/sandbox.md`; agent runtime flows, "Execution".
"""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from models.errors import PlatformError, UnavailableError
from models.manifest import MAX_MEMORY_MB, MAX_TIMEOUT_MS, MIN_MEMORY_MB, NetworkHost, Runtime

MEBIBYTE = 1024 * 1024


class ExitReason(StrEnum):
    """Why an execution ended. The list is closed; only ``SUCCESS`` is ever charged.

    ``AGENT_ERROR``: non-zero exit of the agent. ``OUTPUT_INVALID``: exit 0, but standard output is not one
    JSON document. ``OOM``: the memory limit. ``TIMEOUT``: the time limit. ``OUTPUT_CAP``: more output than
    allowed. ``LIMIT``: another limit (processes, file size, disk). ``CANCELLED``: on request.
    ``INFRA_LOST``: the engine or the container went away; not the agent's doing.
    """

    SUCCESS = "success"
    AGENT_ERROR = "agent_error"
    OUTPUT_INVALID = "output_invalid"
    OOM = "oom"
    TIMEOUT = "timeout"
    OUTPUT_CAP = "output_cap"
    LIMIT = "limit"
    CANCELLED = "cancelled"
    INFRA_LOST = "infra_lost"


class SandboxLimits(BaseModel):
    """Ceilings of one execution, enforced by the kernel or by the worker, never by the agent.

    Attributes:
        memory_mb: Memory of all its processes together with its files in ``/tmp`` and ``/work``, in MiB;
            rounded up to the next limit class. There is no swap.
        timeout_ms: Wall-clock time of the agent, in milliseconds.
        cpus: CPU cores.
        pids: Processes and threads.
        file_bytes: Largest file it may write.
        open_files: Open descriptors per process.
        tmp_mb: Size of ``/tmp`` in MiB.
        work_mb: Size of ``/work`` (code and inputs) in MiB.
        stdout_bytes: Longest standard output (the result).
        stderr_bytes: Longest standard error (the log), all told.
        stderr_tail_bytes: How much of the end of standard error is kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory_mb: int = Field(default=256, ge=MIN_MEMORY_MB, le=MAX_MEMORY_MB)
    timeout_ms: int = Field(default=60_000, ge=1, le=MAX_TIMEOUT_MS)
    cpus: float = Field(default=1.0, ge=0.1, le=8)
    pids: int = Field(default=64, ge=16, le=512)
    file_bytes: int = Field(default=50 * MEBIBYTE, ge=MEBIBYTE)
    open_files: int = Field(default=1024, ge=64, le=65536)
    tmp_mb: int = Field(default=64, ge=1, le=1024)
    work_mb: int = Field(default=64, ge=16, le=1024)
    stdout_bytes: int = Field(default=MEBIBYTE, ge=1024, le=64 * MEBIBYTE)
    stderr_bytes: int = Field(default=8 * MEBIBYTE, ge=1024, le=64 * MEBIBYTE)
    stderr_tail_bytes: int = Field(default=16 * 1024, ge=256, le=MEBIBYTE)


class EgressDecision(BaseModel):
    """One connection or request that the agent tried, and what the broker decided.

    Attributes:
        host: Destination as the agent named it.
        port: Destination port.
        method: HTTP method, or ``CONNECT`` for a tunnel.
        allowed: Whether it was let through.
        reason: ``allowed``, or the rule that refused it.
        address: The address it was pinned to, when one was resolved.
        bytes_sent: Bytes from the agent to the destination.
        bytes_received: Bytes from the destination to the agent.
        credential: Name of the alias whose credential was added, never the credential.
    """

    host: str
    port: int
    method: str
    allowed: bool
    reason: str
    address: str | None = None
    bytes_sent: int = 0
    bytes_received: int = 0
    credential: str | None = None


class SandboxRequest(BaseModel):
    """One execution of one version of an agent's code.

    Never crosses Temporal: the code and the deployment's config are fetched inside the activity.

    Attributes:
        execution_id: Identity of the execution; names the container together with ``attempt``.
        attempt: Attempt of the activity, from 1.
        runtime: The interpreter.
        entry_point: Path of the main file inside the archive.
        code: The canonical tar archive (plain or gzip) of regular files.
        inputs: The agent's inputs: standard input, the file ``INPUTS_FILE``, and ``INPUTS`` when small.
        config: Non-secret deployment settings, as JSON in ``CONFIG``.
        limits: Ceilings.
        network: Declared hosts; empty means no network at all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    execution_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,100}$")
    attempt: int = Field(default=1, ge=1)
    runtime: Runtime
    entry_point: str = Field(min_length=1, max_length=200)
    code: bytes = Field(repr=False)
    inputs: JsonValue = Field(default=None, repr=False)
    config: JsonValue = Field(default=None, repr=False)
    limits: SandboxLimits = SandboxLimits()
    network: tuple[NetworkHost, ...] = ()

    @field_validator("entry_point")
    @classmethod
    def _inside_the_archive(cls, value: str) -> str:
        parts = value.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\0" in value:
            raise ValueError("entry_point must be a relative path inside the archive, without '.' or '..'")
        return value


class SandboxResult(BaseModel):
    """How an execution ended.

    Attributes:
        exit_reason: The outcome.
        started: Whether the agent may have begun to run. An ``INFRA_LOST`` with ``started`` false can be
            repeated without any side effect having happened.
        exit_code: Of the agent's main process (128 + signal when a signal ended it), when known.
        stdout: Standard output, at most the cap. The result document when ``exit_reason`` is ``SUCCESS``.
        stderr_tail: End of standard error.
        detail: One sentence for people that says what happened.
        duration_ms: Time the agent ran, in milliseconds.
        cpu_ms: CPU time of the container during the run, in milliseconds.
        memory_peak_bytes: Highest memory use of the container.
        warm: Whether the container was waiting.
        stdout_total: Bytes the agent wrote to standard output, also beyond the cap.
        stderr_total: Likewise for standard error.
        egress: Every network decision, in order.
        egress_refused: How many of them, counted beyond the list's own cap, were refusals.
    """

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    exit_reason: ExitReason
    started: bool
    exit_code: int | None = None
    stdout: bytes = Field(default=b"", repr=False)
    stderr_tail: bytes = Field(default=b"", repr=False)
    detail: str = ""
    duration_ms: int = 0
    cpu_ms: int | None = None
    memory_peak_bytes: int | None = None
    warm: bool = False
    stdout_total: int = 0
    stderr_total: int = 0
    egress: list[EgressDecision] = []
    egress_refused: int = 0

    @property
    def succeeded(self) -> bool:
        """Whether the agent ended well with one JSON document."""
        return self.exit_reason is ExitReason.SUCCESS


class SandboxUnavailableError(UnavailableError):
    """The container engine does not answer."""

    code = "SANDBOX_UNAVAILABLE"

    def __init__(self, engine: str, reason: str) -> None:
        super().__init__(
            f"The container engine at {engine} does not answer: {reason}. Start Docker Engine, or set "
            "DOCKER_HOST to the address of a running one.",
            details={"engine": engine},
        )


class SandboxImageError(PlatformError):
    """The image that agents run in cannot be built or fails its check."""

    code = "SANDBOX_IMAGE_UNAVAILABLE"
    http_status = 503

    def __init__(self, reason: str) -> None:
        super().__init__(f"The agent image cannot be built: {reason}")
        self.reason = reason


class SandboxContainmentError(PlatformError):
    """The engine does not contain what it must contain, so nothing is run on it."""

    code = "SANDBOX_NOT_CONTAINED"
    http_status = 503

    def __init__(self, failed: list[str]) -> None:
        super().__init__(
            f"The container engine failed the containment self-test: {', '.join(failed)}. Nothing is run on "
            "it; see docs/sandbox.md, 'Self-test'.",
            details={"failed": failed},
        )
