"""Switchyard's own parts: migrations, agent image, worker, API."""

import sys

from cli.stack.part import Command, Context, Part
from cli.stack.probe import ask


def _python(context: Context, *arguments: str) -> Command:
    return Command((sys.executable, *arguments), context.child_environment())


async def _worker_polls(context: Context, pid: int) -> bool:
    """Whether the Temporal server has seen this very process ask for work."""
    port = context.ports.get("temporal_http")
    if port is None:  # a Temporal server elsewhere: its HTTP address is not known
        return True
    settings = context.settings
    queue = settings.task_queues.split(",")[0].strip()
    for kind in ("WORKFLOW", "ACTIVITY"):
        answer = await ask(
            port,
            f"/api/v1/namespaces/{settings.temporal_namespace}/task-queues/{queue}"
            f"?taskQueueType=TASK_QUEUE_TYPE_{kind}",
        )
        if answer is None or answer.status != 200:
            return False
        pollers: list[dict[str, str]] = answer.json().get("pollers", [])
        if any(str(poller.get("identity", "")).startswith(f"{pid}@") for poller in pollers):
            return True
    return False


async def _api_answers(context: Context, pid: int) -> bool:
    del pid
    answer = await ask(context.ports["api"], "/health/ready")
    return answer is not None and answer.status == 200


def _api_command(context: Context) -> Command:
    return _python(
        context,
        "-m",
        "uvicorn",
        "api.app:create_app",
        "--factory",
        f"--host={context.settings.api_host}",
        f"--port={context.ports['api']}",
        "--no-access-log",
        "--timeout-graceful-shutdown=5",
    )


def _api_contributes(context: Context) -> dict[str, str]:
    port = context.ports["api"]
    contribution = {"API_PORT": str(port)}
    if not context.settings.given("public_url"):
        contribution["PUBLIC_URL"] = f"http://127.0.0.1:{port}"
    return contribution


MIGRATIONS = Part(
    name="migrations",
    title="Database schema",
    depends_on=("postgres",),
    command=lambda context: _python(context, "-m", "cli.stack.migrate"),
    job=True,
    start_deadline_seconds=300,
)

AGENT_IMAGE = Part(
    name="image",
    title="Agent image",
    depends_on=("docker",),
    command=lambda context: _python(context, "-m", "cli.stack.image"),
    job=True,
    # The first build installs a small Debian; later starts only compare a label.
    start_deadline_seconds=900,
)

WORKER = Part(
    name="worker",
    title="Worker",
    depends_on=("migrations", "temporal", "s3", "image"),
    command=lambda context: _python(context, "-m", "worker"),
    healthy=_worker_polls,
    start_deadline_seconds=60,
    stop_deadline_seconds=20,
)

API = Part(
    name="api",
    title="API and console",
    depends_on=("migrations", "temporal", "s3"),
    ports={"api": 8000},
    port_settings={"api": "api_port"},
    contributes=_api_contributes,
    command=_api_command,
    healthy=_api_answers,
    start_deadline_seconds=60,
    address=lambda context: context.settings.public_url,
)
