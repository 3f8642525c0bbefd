"""Deployed processes in the store."""

from collections.abc import Sequence
from typing import Any, LiteralString

from activities.records.database import Connection
from activities.records.json_values import stored
from models.identifiers import new_identifier
from models.process import ProcessDefinition, ProcessDesign
from models.process_errors import (
    DesignNotFoundError,
    DesignVersionTakenError,
    ProcessDefinitionNotFoundError,
)

_INSERT = """
INSERT INTO process_definitions (id, tenant_id, design_id, design_version, process_key, name, version_tag,
                                 bpmn_xml, dmn_xml, parsed_model, content_hash, status, diagnostics,
                                 deployed_by, deployed_at)
VALUES (%(id)s, %(tenant_id)s, %(design_id)s, %(design_version)s, %(process_key)s, %(name)s, %(version_tag)s,
        %(bpmn_xml)s, %(dmn_xml)s, %(parsed_model)s, %(content_hash)s, 'active', %(diagnostics)s,
        %(deployed_by)s, now())
RETURNING *
"""

_LIGHT: LiteralString = (
    "id, tenant_id, design_id, design_version, process_key, name, version_tag, content_hash, status, "
    "diagnostics, deployed_by, deployed_at, '' AS bpmn_xml, '[]'::jsonb AS dmn_xml, "
    "'{}'::jsonb AS parsed_model"
)
"""Everything of a definition but its sources."""


async def insert_definition(
    connection: Connection,
    *,
    tenant_id: str,
    design_id: str,
    version: int | None,
    process_key: str,
    name: str,
    version_tag: str | None,
    bpmn_xml: str,
    dmn_xml: Sequence[str],
    parsed_model: dict[str, Any],
    content_hash: str,
    diagnostics: Sequence[dict[str, Any]],
    deployed_by: str,
) -> ProcessDefinition:
    """Insert the next version of a design, or answer the one there is with the same content.

    Args:
        connection: A transaction of the tenant.
        tenant_id: Its tenant.
        design_id: What versions are counted under.
        version: The version, None for the next one (or the latest, if it has the same content).
        process_key: Identifier of the process in the file.
        name: For people.
        version_tag: The author's label.
        bpmn_xml: The file.
        dmn_xml: Its decision models.
        parsed_model: Canonical form.
        content_hash: Identity of the content.
        diagnostics: Warnings.
        deployed_by: User.

    Raises:
        DesignVersionTakenError: The version exists with other content.
    """
    # Two deployments of one design at once must not both take the next number.
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"design/{tenant_id}/{design_id}"]
    )
    latest = await latest_of_design(connection, design_id)
    if version is None:
        if latest is not None and latest.content_hash == content_hash:
            return latest
        version = 1 if latest is None else latest.design_version + 1
    else:
        cursor = await connection.execute(
            "SELECT * FROM process_definitions WHERE design_id = %s AND design_version = %s",
            [design_id, version],
        )
        row = await cursor.fetchone()
        if row is not None:
            if row["content_hash"] != content_hash:
                raise DesignVersionTakenError(design_id, version)
            return ProcessDefinition.model_validate(row)
    cursor = await connection.execute(
        _INSERT,
        {
            "id": new_identifier("process_definition"),
            "tenant_id": tenant_id,
            "design_id": design_id,
            "design_version": version,
            "process_key": process_key,
            "name": name[:200],
            "version_tag": version_tag,
            "bpmn_xml": bpmn_xml,
            "dmn_xml": stored(list(dmn_xml)),
            "parsed_model": stored(parsed_model),
            "content_hash": content_hash,
            "diagnostics": stored(list(diagnostics)),
            "deployed_by": deployed_by,
        },
    )
    inserted = await cursor.fetchone()
    assert inserted is not None, "an insert without conflict returns its row"
    return ProcessDefinition.model_validate(inserted)


async def latest_of_design(connection: Connection, design_id: str) -> ProcessDefinition | None:
    """Read the newest deployed version of a design, without its sources."""
    cursor = await connection.execute(
        f"SELECT {_LIGHT} FROM process_definitions WHERE design_id = %s ORDER BY design_version DESC LIMIT 1",
        [design_id],
    )
    row = await cursor.fetchone()
    return None if row is None else ProcessDefinition.model_validate(row)


async def find_definition(
    connection: Connection, definition_id: str, *, sources: bool = False
) -> ProcessDefinition:
    """Read a deployed version.

    Raises:
        ProcessDefinitionNotFoundError: The transaction's tenant has no such definition.
    """
    columns: LiteralString = "*" if sources else _LIGHT
    cursor = await connection.execute(
        f"SELECT {columns} FROM process_definitions WHERE id = %s", [definition_id]
    )
    row = await cursor.fetchone()
    if row is None:
        raise ProcessDefinitionNotFoundError(definition_id)
    return ProcessDefinition.model_validate(row)


async def find_process(connection: Connection, process_key: str, binding: str | None) -> ProcessDefinition:
    """Read the deployed version of a process that a call activity names.

    Args:
        connection: A transaction of the tenant.
        process_key: Identifier of the process.
        binding: ``latest`` (also None and ``deployment``), a version number, or a version tag.

    Raises:
        ProcessDefinitionNotFoundError: There is none that is active.
    """
    number = int(binding) if binding and binding.isdecimal() and len(binding) < 9 else None
    tag = binding if binding not in (None, "", "latest", "deployment") and number is None else None
    cursor = await connection.execute(
        f"SELECT {_LIGHT} FROM process_definitions WHERE process_key = %(key)s AND status = 'active' "
        "AND (%(number)s::int IS NULL OR design_version = %(number)s) "
        "AND (%(tag)s::text IS NULL OR version_tag = %(tag)s) ORDER BY deployed_at DESC, id DESC LIMIT 1",
        {"key": process_key, "number": number, "tag": tag},
    )
    row = await cursor.fetchone()
    if row is None:
        raise ProcessDefinitionNotFoundError(process_key if binding is None else f"{process_key}:{binding}")
    return ProcessDefinition.model_validate(row)


async def find_content(connection: Connection, content_hash: str) -> tuple[dict[str, Any], list[str]] | None:
    """Read canonical form and decision models by their hash, whoever deployed them."""
    cursor = await connection.execute(
        "SELECT parsed_model, dmn_xml FROM process_definitions WHERE content_hash = %s LIMIT 1",
        [content_hash],
    )
    row = await cursor.fetchone()
    return None if row is None else (row["parsed_model"], row["dmn_xml"])


async def list_definitions(
    connection: Connection,
    *,
    process_key: str | None = None,
    latest_only: bool = False,
    limit: int = 50,
    offset: int = 0,
) -> tuple[list[ProcessDefinition], int]:
    """List deployed versions, newest first, and count them all."""
    condition: LiteralString = (
        "WHERE (%(key)s::text IS NULL OR process_key = %(key)s) AND (NOT %(latest)s OR NOT EXISTS ("
        "SELECT FROM process_definitions later WHERE later.design_id = process_definitions.design_id "
        "AND later.design_version > process_definitions.design_version))"
    )
    parameters = {"key": process_key, "latest": latest_only, "limit": limit, "offset": offset}
    cursor = await connection.execute(
        f"SELECT {_LIGHT} FROM process_definitions {condition} "
        "ORDER BY deployed_at DESC, id DESC LIMIT %(limit)s OFFSET %(offset)s",
        parameters,
    )
    found = [ProcessDefinition.model_validate(row) for row in await cursor.fetchall()]
    cursor = await connection.execute(
        f"SELECT count(*) AS total FROM process_definitions {condition}", parameters
    )
    row = await cursor.fetchone()
    return found, 0 if row is None else row["total"]


async def set_definition_status(connection: Connection, definition_id: str, status: str) -> ProcessDefinition:
    """Activate, suspend or retire a version.

    Raises:
        ProcessDefinitionNotFoundError: There is no such definition.
    """
    await connection.execute(
        "UPDATE process_definitions SET status = %s WHERE id = %s", [status, definition_id]
    )
    return await find_definition(connection, definition_id)


async def insert_design(connection: Connection, design: ProcessDesign) -> ProcessDesign:
    """Store a version of a design; the same one twice is one.

    Raises:
        DesignVersionTakenError: The version holds something else.
    """
    await connection.execute(
        "INSERT INTO process_designs (tenant_id, design_id, design_version, bpmn_xml, dmn_xml, created_by, "
        "created_at) VALUES (%(tenant_id)s, %(design_id)s, %(design_version)s, %(bpmn_xml)s, %(dmn_xml)s, "
        "%(created_by)s, now()) ON CONFLICT DO NOTHING",
        {**design.model_dump(), "dmn_xml": stored(design.dmn_xml)},
    )
    kept = await find_design(connection, design.design_id, design.design_version)
    if (kept.bpmn_xml, kept.dmn_xml) != (design.bpmn_xml, design.dmn_xml):
        raise DesignVersionTakenError(design.design_id, design.design_version)
    return kept


async def find_design(connection: Connection, design_id: str, version: int | None) -> ProcessDesign:
    """Read a version of a design, the newest where none is named.

    Raises:
        DesignNotFoundError: There is none.
    """
    cursor = await connection.execute(
        "SELECT * FROM process_designs WHERE design_id = %(id)s "
        "AND (%(version)s::int IS NULL OR design_version = %(version)s) "
        "ORDER BY design_version DESC LIMIT 1",
        {"id": design_id, "version": version},
    )
    row = await cursor.fetchone()
    if row is None:
        raise DesignNotFoundError(design_id, version)
    return ProcessDesign.model_validate(row)
