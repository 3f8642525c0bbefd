"""Keep the history of a real run for the replay test: ``RECORD_HISTORIES=1 pytest tests/publishing``.

A test that drives a workflow to its end says ``await check_history(handle, "publish_review/approved", …)``:
the history replays under the present code, and with ``RECORD_HISTORIES`` it is written. Payloads are
decrypted with the run's own key and encrypted under the histories' fixed key, so that anyone can replay them.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToJson
from temporalio.api.common.v1 import Payload
from temporalio.api.history.v1 import History
from temporalio.client import WorkflowHandle
from temporalio.converter import PayloadCodec
from temporalio.worker import Replayer

from activities.storage import ObjectStore
from activities.temporal.client import data_converter
from activities.temporal.codec import ENCODING, EncryptionCodec, KeyRing
from models.errors import PlatformError
from models.settings import Settings
from tests.histories.keys import HISTORY_KEY
from tests.workflows.fingerprint import workflow_classes
from worker import workflow_runner

HISTORIES = Path(__file__).parent


async def check_history(handle: WorkflowHandle[Any, Any], name: str, settings: Settings) -> None:
    """Replay a run's own history; keep it as ``name`` where ``RECORD_HISTORIES`` is set."""
    store = ObjectStore(settings)
    replayer = Replayer(
        workflows=workflow_classes(),
        data_converter=data_converter(settings, store),
        workflow_runner=workflow_runner(),
        workflow_failure_exception_types=[PlatformError],
    )
    await replayer.replay_workflow(await handle.fetch_history())
    if os.environ.get("RECORD_HISTORIES"):
        await keep_history(handle, name, settings)


async def keep_history(handle: WorkflowHandle[Any, Any], name: str, settings: Settings) -> Path:
    """Write a run's history to ``tests/histories/<name>.json``, encrypted under the histories' key.

    Args:
        handle: The run.
        name: Folder (the workflow) and file name without its ending.
        settings: Those the run's payloads were encrypted with.
    """
    history = History(events=(await handle.fetch_history()).events)
    reader = EncryptionCodec(KeyRing(settings.encryption_key_ring()))
    writer = EncryptionCodec(KeyRing([HISTORY_KEY]))
    for payload in _payloads(history):
        await _translate(payload, reader, writer)
    path = HISTORIES / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(json.loads(MessageToJson(history)), indent=1, sort_keys=True) + "\n"
    await asyncio.to_thread(path.write_text, text)
    return path


async def _translate(payload: Payload, reader: PayloadCodec, writer: PayloadCodec) -> None:
    if payload.metadata.get("encoding") != ENCODING:
        return
    (plain,) = await reader.decode([payload])
    (translated,) = await writer.encode([plain])
    payload.CopyFrom(translated)


def _payloads(message: Any) -> list[Payload]:
    """Find every payload inside a protobuf message, whatever holds it."""
    found: list[Payload] = []
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        if descriptor.message_type.GetOptions().map_entry:
            parts = list(value.values())
        elif hasattr(value, "ListFields"):
            parts = [value]
        else:
            parts = list(value)
        for part in parts:
            if isinstance(part, Payload):
                found.append(part)
            elif hasattr(part, "ListFields"):
                found += _payloads(part)
    return found
