"""The processes of ``examples/flows``, each from its start to its end on the real servers."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from activities.trigger import serving_triggers
from models.settings import Settings
from tests.builders import unique
from tests.eventually import eventually
from tests.histories.definitions import keep_definition
from tests.histories.record import check_history
from tests.process.world import ProcessWorld

EXAMPLES = Path(__file__).parents[2] / "examples" / "flows"
Work = Callable[[dict[str, Any]], dict[str, Any] | str]
"""Does a job: returns its variables, or the code of a BPMN error."""


async def deployed(world: ProcessWorld, name: str, *tables: str) -> str:
    files = [(EXAMPLES / table).read_text() for table in tables]
    return await world.deploy((EXAMPLES / f"{name}.bpmn").read_bytes(), files)


@asynccontextmanager
async def workers(world: ProcessWorld, **jobs: Work) -> AsyncGenerator[list[str]]:
    """Outside workers for as long as the block lasts; gives the elements they worked on, in order."""
    done: list[str] = []

    async def serve(kind: str, work: Work) -> None:
        me = unique(kind)
        while True:
            body = {"type": kind, "worker": me, "maxJobs": 5, "waitSeconds": 0.3}
            for job in (await world.call("POST", "/jobs/activate", body))["jobs"]:
                done.append(job["taskId"])
                result = work(job["variables"])
                how = {"code": result} if isinstance(result, str) else {"variables": result}
                verb = "error" if isinstance(result, str) else "complete"
                await world.call("POST", f"/jobs/{job['id']}/{verb}", {"worker": me, **how})

    tasks = [asyncio.create_task(serve(kind.replace("_", "-"), work)) for kind, work in jobs.items()]
    try:
        yield done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def replayed(world: ProcessWorld, instance: str, name: str, settings: Settings) -> None:
    """See that the instance's history replays; keep it where histories are recorded."""
    (row,) = await world.rows(
        "SELECT content_hash FROM process_definitions d JOIN process_instances i ON i.definition_id = d.id "
        "WHERE i.id = %s",
        instance,
    )
    await keep_definition("process_instance", row["content_hash"])
    await world.handle(instance).result()
    await check_history(world.handle(instance), f"process_instance/{name}", settings)


async def test_an_incident_is_classified_approved_and_resolved(
    processes: ProcessWorld, process_settings: Settings
) -> None:
    definition = await deployed(processes, "incident-resolution")
    async with workers(
        processes,
        classify_incident=lambda _: {"severity": "high"},
        resolve_incident=lambda seen: {"resolution": f"restarted {seen['service']}"},
    ) as done:
        instance = await processes.begin(definition, {"service": "mail", "approvalTime": "PT0.2S"})
        await processes.waiting(instance, "approve")

        async def reminded() -> bool:
            events = await processes.rows(
                "SELECT data FROM run_events WHERE run_id = %s AND type = 'task.completed'", instance
            )
            return any(row["data"].get("element") == "remind" for row in events)

        await eventually(reminded, timeout=60)
        body = {"taskId": "approve", "payload": {"approved": True}}
        await processes.call("POST", f"/instances/{instance}/signal", body)
        shown = await processes.ended(instance)
    assert shown["variables"]["resolution"] == "restarted mail"
    assert done == ["classify", "resolve"]
    await replayed(processes, instance, "incident-resolution", process_settings)


async def test_a_purchase_that_nobody_decides_is_escalated(
    processes: ProcessWorld, process_settings: Settings
) -> None:
    definition = await deployed(processes, "purchase-approval", "approval-level.dmn")
    small = await processes.begin(definition, {"amount": 20, "patience": "P1D"})
    await processes.ended(small)
    instance = await processes.begin(definition, {"amount": 700, "patience": "PT0.3S"})
    await processes.waiting(instance, "escalated")
    body = {"taskId": "escalated", "payload": {"approved": True}}
    await processes.call("POST", f"/instances/{instance}/signal", body)
    shown = await processes.ended(instance)
    assert shown["variables"]["approval"] == {"group": "user", "time": "PT0.3S"}
    await replayed(processes, instance, "purchase-approval", process_settings)


async def test_an_order_that_cannot_be_shipped_is_undone_youngest_first(
    processes: ProcessWorld, process_settings: Settings
) -> None:
    definition = await deployed(processes, "order-fulfilment")
    order = unique("order")
    async with workers(
        processes,
        reserve_stock=lambda _: {"shelf": 7},
        write_invoice=lambda _: {"invoice": 41},
        ship_parcel=lambda _: "NO_CARRIER",
        write_credit_note=lambda seen: {"credited": seen["invoice"]},
        release_stock=lambda seen: {"released": seen["shelf"]},
    ) as done:
        instance = await processes.begin(definition, {"orderId": order})
        message = {"name": "payment-received", "correlationKey": order, "variables": {"paid": 12}}
        await processes.call("POST", "/messages", message)
        shown = await processes.ended(instance)
    assert done == ["reserve", "invoice", "ship", "credit", "release"]
    assert (shown["variables"]["credited"], shown["variables"]["released"]) == (41, 7)
    await replayed(processes, instance, "order-fulfilment", process_settings)


async def test_the_weekly_report_starts_by_its_timer(
    processes: ProcessWorld, process_settings: Settings
) -> None:
    await deployed(processes, "weekly-report")
    (trigger,) = (await processes.call("GET", "/triggers?processKey=weekly-report"))["triggers"]
    assert (trigger["cronExpression"], trigger["timeZone"]) == ("0 9 * * MON", "Europe/Berlin")
    monday = datetime.now(UTC) - timedelta(days=8)
    span = {"start": monday.isoformat(), "end": (monday + timedelta(days=7)).isoformat()}
    async with serving_triggers(processes.services.database, processes.temporal):
        path = f"/triggers/{trigger['triggerId']}"
        await processes.call("POST", f"{path}/backfill", span)

        async def begun() -> Any:
            found = (await processes.call("GET", f"{path}/starts"))["starts"]
            ids = [start["instanceId"] for start in found]
            return found if await processes.rows("SELECT id FROM runs WHERE id = ANY(%s)", ids) else None

        (start,) = await eventually(begun, timeout=60)
        instance = start["instanceId"]
        shown = await processes.ended(instance)
    assert shown["variables"]["report"] == "Report on sales; Report on support; Report on money"
    await replayed(processes, instance, "weekly-report", process_settings)
    period = start["period"].replace("+00:00", "Z")
    starting = processes.temporal.get_workflow_handle(f"trigger/{trigger['triggerId']}-{period}")
    assert await starting.result() == instance
    await check_history(starting, "triggered_start/backfilled", process_settings)


async def test_a_swarm_of_agents_works_until_the_critic_is_content(
    processes: ProcessWorld, process_settings: Settings
) -> None:
    definition = await deployed(processes, "agent-swarm")

    def plan(seen: dict[str, Any]) -> dict[str, Any]:
        return {"activate": ["write"] if seen.get("facts") else ["research"]}

    async with workers(
        processes,
        swarm_planner=plan,
        swarm_researcher=lambda seen: {"fact": f"about {seen['question']}"},
        swarm_writer=lambda seen: {"answer": " and ".join(seen["facts"])},
        swarm_critic=lambda seen: {"good": "moon" in seen["answer"]},
    ) as done:
        instance = await processes.begin(definition, {"questions": ["sun", "moon"]})
        shown = await processes.ended(instance)
    assert shown["variables"]["answer"] == "about sun and about moon"
    assert done == ["swarm", "research", "research", "swarm", "write", "criticise"]
    await replayed(processes, instance, "agent-swarm", process_settings)
