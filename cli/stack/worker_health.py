"""Whether the worker of this container polls: ``python -m cli.stack.worker_health``, status 0 or 1."""

import asyncio
import os
import socket

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from models.settings import Settings, load_settings


async def polls(settings: Settings) -> bool:
    """Whether the Temporal server lists this host among those that asked for work lately."""
    client = await Client.connect(settings.temporal_address, namespace=settings.temporal_namespace)
    host = f"@{socket.gethostname()}"
    for kind in (TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY):
        answer = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=settings.temporal_namespace,
                task_queue=TaskQueue(name=settings.task_queues.split(",")[0].strip()),
                task_queue_type=kind,
            )
        )
        if any(poller.identity.endswith(host) for poller in answer.pollers):
            return True
    return False


if __name__ == "__main__":
    # Without the interpreter's own shutdown, which a Temporal client can crash.
    os._exit(0 if asyncio.run(polls(load_settings())) else 1)
