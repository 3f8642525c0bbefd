"""``switchyard webhooks create | list | delete | deliveries | redrive``."""

from typing import Annotated

import typer

from cli.output import JsonOption, note, print_json, print_table
from models.event import EventType
from models.stream import DeliveryStatus

_COLUMNS = {
    "webhook_id": "WEBHOOK",
    "url": "URL",
    "event_types": "TYPES",
    "enabled": "ENABLED",
    "description": "DESCRIPTION",
    "created_at": "CREATED",
}
_DELIVERIES = {
    "delivery_id": "DELIVERY",
    "event_type": "TYPE",
    "run_id": "RUN",
    "seq": "SEQ",
    "status": "STATUS",
    "attempts": "ATTEMPTS",
    "response_status": "ANSWER",
    "error": "ERROR",
    "next_attempt_at": "NEXT ATTEMPT",
}

WebhookId = Annotated[str, typer.Argument(help="Id of the webhook (`switchyard webhooks list`).")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    webhooks = typer.Typer(help="Addresses that your tenant's events are sent to.", no_args_is_help=True)
    webhooks.command("create")(create)
    webhooks.command("list")(list_)
    webhooks.command("delete")(delete)
    webhooks.command("deliveries")(deliveries)
    webhooks.command("redrive")(redrive)
    app.add_typer(webhooks, name="webhooks", rich_help_panel="Operations")


def create(
    url: Annotated[str, typer.Argument(help="An https address of a public host.")],
    event_type: Annotated[
        list[EventType] | None, typer.Option("--type", help="Only events of this type; several times.")
    ] = None,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    json: JsonOption = False,
) -> None:
    """Send events from now on, and print the secret that signs them, this once."""
    from cli.client import connect

    body = {
        "url": url,
        "description": description,
        "event_types": [each.value for each in event_type or []],
    }
    with connect() as client:
        made = client.post("/webhooks", body)
    if json:
        print_json(made)
        return
    note(f"{made['webhook_id']}: keep the secret now, it is not shown again.")
    typer.echo(made["secret"])


def list_(json: JsonOption = False) -> None:
    """List your tenant's webhooks."""
    from cli.client import connect

    with connect() as client:
        found = list(client.items("/webhooks"))
    if json:
        print_json(found)
    else:
        print_table(_COLUMNS, found, empty="There are no webhooks. Make one: `switchyard webhooks create`.")


def delete(webhook_id: WebhookId) -> None:
    """Send nothing more to a webhook."""
    from cli.client import connect

    with connect() as client:
        client.delete(f"/webhooks/{webhook_id}")
    note(f"Nothing more is sent to {webhook_id}.")


def deliveries(
    webhook_id: WebhookId,
    status: Annotated[DeliveryStatus | None, typer.Option(help="Only those with this status.")] = None,
    maximum: Annotated[int, typer.Option("--maximum", min=1, help="At most so many.")] = 50,
    json: JsonOption = False,
) -> None:
    """List what was sent to a webhook and how it went, newest first."""
    from cli.client import connect

    with connect() as client:
        path = f"/webhooks/{webhook_id}/deliveries"
        found = list(client.items(path, maximum=maximum, status=status.value if status else None))
    if json:
        print_json(found)
    else:
        print_table(_DELIVERIES, found, empty="Nothing was sent there yet.")


def redrive(
    webhook_id: WebhookId,
    delivery_id: Annotated[str | None, typer.Argument(help="One of them; default: all dead ones.")] = None,
) -> None:
    """Try dead deliveries again from the start."""
    from cli.client import connect

    with connect() as client:
        path = f"/webhooks/{webhook_id}/deliveries"
        dead = (
            [delivery_id]
            if delivery_id
            else [each["delivery_id"] for each in list(client.items(path, status=DeliveryStatus.DEAD.value))]
        )
        for each in dead:
            client.post(f"{path}/{each}/redrive")
    note(f"{len(dead)} deliveries to {webhook_id} are tried again.")
