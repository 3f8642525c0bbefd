"""What a dead worker leaves is removed; what a living one uses is not."""

import dataclasses
import os
import socket
import time

import pytest

from activities.sandbox.reaper import is_orphan, reap
from activities.sandbox.runner import SandboxRunner
from activities.sandbox.self_test import SelfTest, self_test
from activities.sandbox.settings import SandboxSettings, process_start, worker_identity
from activities.sandbox.spec import LABEL_DEADLINE, LABEL_WORKER, ContainerClass
from models.manifest import Runtime
from models.sandbox import SandboxContainmentError
from tests.sandbox.agents import LIMITS

LATER = str(int(time.time()) + 1000)
HERE = socket.gethostname()


@pytest.mark.parametrize(
    ("labels", "orphan"),
    [
        ({LABEL_DEADLINE: LATER, LABEL_WORKER: worker_identity()}, False),
        ({LABEL_DEADLINE: "1000", LABEL_WORKER: worker_identity()}, True),
        ({LABEL_DEADLINE: LATER, LABEL_WORKER: f"{HERE}:{os.getpid()}:1"}, True),
        ({LABEL_DEADLINE: LATER, LABEL_WORKER: f"{HERE}:4194303:1"}, True),
        ({LABEL_DEADLINE: LATER, LABEL_WORKER: "another-host:1:1"}, False),
        ({LABEL_WORKER: worker_identity()}, True),
    ],
    ids=["in use", "past its deadline", "number used again", "process gone", "another host", "no deadline"],
)
def test_an_orphan_is_known_by_its_labels(labels: dict[str, str], orphan: bool) -> None:
    assert is_orphan(labels, now=time.time(), host=HERE) is orphan


def test_a_process_that_is_gone_has_no_start() -> None:
    assert process_start(4194303) is None
    assert process_start(os.getpid()) is not None


async def test_only_orphans_are_reaped(runner: SandboxRunner, sandbox_settings: SandboxSettings) -> None:
    dead = dataclasses.replace(sandbox_settings, worker=f"{HERE}:4194303:1", warm={})
    lost, kept = SandboxRunner(dead), SandboxRunner(dataclasses.replace(dead, worker=worker_identity()))
    kind = ContainerClass.of(Runtime.PYTHON, LIMITS)
    orphan, used = await lost.starter.waiting(kind, 600), await kept.starter.waiting(kind, 600)
    reaped = await reap(runner.engine, sandbox_settings)
    assert orphan.name in reaped.containers
    assert used.name not in reaped.containers
    assert used.healthy
    for owner, box in ((lost, orphan), (kept, used)):
        await owner.starter.discard(box)
        await owner.close()


async def test_this_engine_contains_what_was_tried(runner: SandboxRunner) -> None:
    found = await self_test(runner)
    assert found.failed == []
    assert found.cgroup_version in (1, 2)
    assert found.seccomp
    found.require()


def test_an_engine_that_does_not_contain_is_refused() -> None:
    found = SelfTest("1", 2, True, False, False, False, "runc", {"no network": False, "memory limit": True})
    with pytest.raises(SandboxContainmentError, match="no network"):
        found.require()
