"""State that outlives a step: of flows, of agents within a flow, of a tenant (flowgrid-level3 §3.2)."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, UniqueConstraint
from sqlmodel import Field

from models.table import Record, json_field, time_field


class FlowState(Record, table=True):
    """The present variables of an instance, with the version that guards them."""

    __tablename__ = "flow_states"
    __table_args__ = (UniqueConstraint("instance_id", "version"),)

    id: str = Field(primary_key=True)
    tenant_id: str
    instance_id: str = Field(foreign_key="process_instances.id", unique=True)
    version: int = 1
    state: dict[str, Any] = json_field()
    checksum: str
    """SHA-256 of the state's canonical JSON, hexadecimal."""
    created_at: datetime = time_field()
    updated_at: datetime = time_field()


class FlowStateHistory(Record, table=True):
    """One version of an instance's variables."""

    __tablename__ = "flow_state_history"
    __table_args__ = (
        UniqueConstraint("instance_id", "version"),
        Index("ix_flow_state_history_instance_id_seq", "instance_id", "seq"),
    )

    id: str = Field(primary_key=True)
    tenant_id: str
    instance_id: str = Field(foreign_key="process_instances.id")
    version: int
    state: dict[str, Any] = json_field()
    checksum: str
    changed_by: str
    change_reason: str | None = None
    changed_at: datetime = time_field()
    seq: int = Field(sa_type=BigInteger)
    """The run's last event when this version was written: ties variables to events."""


class AgentState(Record, table=True):
    """What an agent keeps between its invocations within one instance."""

    __tablename__ = "agent_states"
    __table_args__ = (UniqueConstraint("instance_id", "agent_slug"),)

    id: str = Field(primary_key=True)
    tenant_id: str
    instance_id: str = Field(foreign_key="process_instances.id")
    agent_slug: str
    state: dict[str, Any] = json_field()
    version: int = 1
    updated_at: datetime = time_field()


class GlobalState(Record, table=True):
    """What all flows of a tenant share under a namespace."""

    __tablename__ = "global_states"
    __table_args__ = (UniqueConstraint("tenant_id", "namespace"),)

    id: str = Field(primary_key=True)
    tenant_id: str
    namespace: str
    state: dict[str, Any] = json_field()
    version: int = 1
    updated_at: datetime = time_field()
