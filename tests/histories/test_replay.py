"""Runs of earlier code go on under the present code: every recorded history replays.

A failure means that a workflow's commands changed in a way that breaks runs in flight. Guard the change with
``workflow.patched``; record new histories with ``RECORD_HISTORIES=1 pytest`` on the tests that keep them.
"""

import asyncio
import json
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from models.errors import PlatformError
from tests.histories.keys import history_converter
from tests.histories.record import HISTORIES
from tests.workflows.fingerprint import workflow_classes
from worker import workflow_runner

RECORDED = sorted(HISTORIES.glob("*/*.json"))


def test_there_are_recorded_histories_of_publishing() -> None:
    assert {path.stem for path in RECORDED if path.parent.name == "publish_review"} >= {
        "approved",
        "rejected",
        "scan_failed",
        "slug_taken",
    }


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parent.name}/{path.stem}")
async def test_a_recorded_history_replays(path: Path) -> None:
    replayer = Replayer(
        workflows=workflow_classes(),
        data_converter=history_converter(),
        workflow_runner=workflow_runner(),
        workflow_failure_exception_types=[PlatformError],
    )
    recorded = json.loads(await asyncio.to_thread(path.read_text))
    history = WorkflowHistory.from_json(f"replay/{path.stem}", recorded)
    await replayer.replay_workflow(history)
