"""Versioned state of flows, agents and tenants (flowgrid-level3 §3): checked, guarded, never lost."""

import hashlib
from typing import Any

from activities.records.database import Connection
from activities.records.json_values import cleaned, encoded, stored
from models.identifiers import derived_identifier, new_identifier
from models.process_errors import ProcessInstanceNotFoundError, StateVersionConflictError
from models.process_run import StateChange
from models.process_state import AgentState, FlowState, FlowStateHistory, GlobalState

_WRITE = """
INSERT INTO flow_states (id, tenant_id, instance_id, version, state, checksum, created_at, updated_at)
VALUES (%(state_id)s, %(tenant_id)s, %(instance_id)s, %(version)s, %(state)s, %(checksum)s, now(), now())
ON CONFLICT (instance_id) DO UPDATE
SET version = excluded.version, state = excluded.state, checksum = excluded.checksum, updated_at = now()
WHERE flow_states.version = excluded.version - 1
"""

_KEEP = """
INSERT INTO flow_state_history (id, tenant_id, instance_id, version, state, checksum, changed_by,
                                change_reason, changed_at, seq)
VALUES (%(id)s, %(tenant_id)s, %(instance_id)s, %(version)s, %(state)s, %(checksum)s, %(changed_by)s,
        %(change_reason)s, now(), %(seq)s)
ON CONFLICT (instance_id, version) DO NOTHING
"""

_WRITE_AGENT = """
INSERT INTO agent_states (id, tenant_id, instance_id, agent_slug, state, version, updated_at)
SELECT %(id)s, %(tenant_id)s, %(instance_id)s, %(slug)s, %(state)s, 1, now() WHERE %(expected)s = 0
ON CONFLICT (instance_id, agent_slug) DO NOTHING
"""

_WRITE_GLOBAL = """
INSERT INTO global_states (id, tenant_id, namespace, state, version, updated_at)
SELECT %(id)s, %(tenant_id)s, %(namespace)s, %(state)s, 1, now() WHERE %(expected)s = 0
ON CONFLICT (tenant_id, namespace) DO NOTHING
"""


def checksum(state: dict[str, Any]) -> str:
    """SHA-256 (hexadecimal) of the state as compact JSON with sorted names."""
    return hashlib.sha256(encoded(_ordered(cleaned(state))).encode()).hexdigest()


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _ordered(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    return value


async def write_state(
    connection: Connection, instance_id: str, tenant_id: str, change: StateChange, seq: int
) -> None:
    """Write the next version of an instance's variables and keep it in the history.

    Raises:
        StateVersionConflictError: The stored version is not the one before it.
    """
    state = stored(change.variables)
    parameters = {
        "id": derived_identifier("flow_state", instance_id, change.version),
        "state_id": derived_identifier("flow_state", instance_id),
        "tenant_id": tenant_id,
        "instance_id": instance_id,
        "version": change.version,
        "state": state,
        "checksum": checksum(change.variables),
        "changed_by": change.changed_by[:200],
        "change_reason": change.reason and change.reason[:500],
        "seq": seq,
    }
    cursor = await connection.execute(_WRITE, parameters, prepare=True)
    if cursor.rowcount == 0:
        found = await find_state(connection, instance_id)
        raise StateVersionConflictError(instance_id, change.version - 1, found.version)
    await connection.execute(_KEEP, parameters, prepare=True)


async def find_state(connection: Connection, instance_id: str) -> FlowState:
    """Read the present variables of an instance.

    Raises:
        ProcessInstanceNotFoundError: There is no such instance.
    """
    cursor = await connection.execute("SELECT * FROM flow_states WHERE instance_id = %s", [instance_id])
    row = await cursor.fetchone()
    if row is None:
        raise ProcessInstanceNotFoundError(instance_id)
    return FlowState.model_validate(row)


async def state_as_of(connection: Connection, instance_id: str, seq: int) -> FlowStateHistory:
    """Read the variables that an instance had when its event ``seq`` had happened.

    Raises:
        ProcessInstanceNotFoundError: There is no such instance.
    """
    cursor = await connection.execute(
        "SELECT * FROM flow_state_history WHERE instance_id = %s AND seq <= %s ORDER BY version DESC LIMIT 1",
        [instance_id, seq],
    )
    row = await cursor.fetchone()
    if row is None:
        # Before the first version was kept, the instance had what it started with.
        cursor = await connection.execute(
            "SELECT * FROM flow_state_history WHERE instance_id = %s ORDER BY version LIMIT 1", [instance_id]
        )
        row = await cursor.fetchone()
    if row is None:
        raise ProcessInstanceNotFoundError(instance_id)
    return FlowStateHistory.model_validate(row)


async def list_state_history(
    connection: Connection, instance_id: str, *, before: int | None = None, limit: int = 50
) -> list[FlowStateHistory]:
    """Read versions of an instance's variables, newest first."""
    cursor = await connection.execute(
        "SELECT * FROM flow_state_history WHERE instance_id = %(id)s "
        "AND (%(before)s::int IS NULL OR version < %(before)s) ORDER BY version DESC LIMIT %(limit)s",
        {"id": instance_id, "before": before, "limit": limit},
    )
    return [FlowStateHistory.model_validate(row) for row in await cursor.fetchall()]


async def find_agent_state(connection: Connection, instance_id: str, slug: str) -> AgentState | None:
    """Read what an agent keeps within an instance."""
    cursor = await connection.execute(
        "SELECT * FROM agent_states WHERE instance_id = %s AND agent_slug = %s", [instance_id, slug]
    )
    row = await cursor.fetchone()
    return None if row is None else AgentState.model_validate(row)


async def write_agent_state(
    connection: Connection, tenant_id: str, instance_id: str, slug: str, state: dict[str, Any], expected: int
) -> AgentState:
    """Write what an agent keeps within an instance.

    Args:
        connection: A transaction of the tenant.
        tenant_id: Its tenant.
        instance_id: The instance.
        slug: The agent.
        state: The new state.
        expected: Version that was read, 0 where there was none.

    Raises:
        StateVersionConflictError: It has another version.
    """
    parameters = {
        "id": derived_identifier("flow_state", instance_id, "agent", slug),
        "tenant_id": tenant_id,
        "instance_id": instance_id,
        "slug": slug,
        "state": stored(state),
        "expected": expected,
    }
    cursor = await connection.execute(_WRITE_AGENT, parameters)
    if cursor.rowcount == 0:
        cursor = await connection.execute(
            "UPDATE agent_states SET state = %(state)s, version = version + 1, updated_at = now() "
            "WHERE instance_id = %(instance_id)s AND agent_slug = %(slug)s AND version = %(expected)s",
            parameters,
        )
    found = await find_agent_state(connection, instance_id, slug)
    if cursor.rowcount == 0 or found is None:
        raise StateVersionConflictError(f"agent {slug}", expected, found.version if found else 0)
    return found


async def find_global_state(connection: Connection, namespace: str) -> GlobalState | None:
    """Read the tenant's state under a namespace."""
    cursor = await connection.execute("SELECT * FROM global_states WHERE namespace = %s", [namespace])
    row = await cursor.fetchone()
    return None if row is None else GlobalState.model_validate(row)


async def write_global_state(
    connection: Connection, tenant_id: str, namespace: str, state: dict[str, Any], expected: int
) -> GlobalState:
    """Write the tenant's state under a namespace; like `write_agent_state`.

    Raises:
        StateVersionConflictError: It has another version.
    """
    parameters = {
        "id": new_identifier("flow_state"),
        "tenant_id": tenant_id,
        "namespace": namespace,
        "state": stored(state),
        "expected": expected,
    }
    cursor = await connection.execute(_WRITE_GLOBAL, parameters)
    if cursor.rowcount == 0:
        cursor = await connection.execute(
            "UPDATE global_states SET state = %(state)s, version = version + 1, updated_at = now() "
            "WHERE namespace = %(namespace)s AND version = %(expected)s",
            parameters,
        )
    found = await find_global_state(connection, namespace)
    if cursor.rowcount == 0 or found is None:
        raise StateVersionConflictError(f"namespace {namespace}", expected, found.version if found else 0)
    return found
