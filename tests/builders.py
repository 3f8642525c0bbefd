"""Arranging a world through the public API: people, published agents, deployments, money, executions."""

import base64
import gzip
import io
import json
import tarfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "agents"


class RefusedError(AssertionError):
    """The API refused what the test took for granted."""


def archive(files: Mapping[str, str | bytes]) -> bytes:
    """Pack files as ``tar -czf`` does."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return gzip.compress(raw.getvalue(), mtime=0)


def manifest(slug: str, **changes: Any) -> dict[str, Any]:
    """A valid manifest of a paid Python agent that takes and returns any object."""
    return {
        "name": slug.replace("-", " ").title(),
        "slug": slug,
        "version": "1.0.0",
        "description": "An agent of the tests.",
        "category": "testing",
        "runtime": "python",
        "entry_point": "main.py",
        "input_schema": {"type": "object"},
        "output_schema": {"type": "object"},
        "pricing": {"model": "per_execution", "amount": 50, "currency": "INR"},
        "timeout_ms": 20_000,
        "memory_mb": 128,
        **changes,
    }


def unique(prefix: str) -> str:
    """A name that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


@dataclass
class Person:
    """Somebody with a token, calling the API."""

    client: httpx.AsyncClient
    user_id: str
    tenant_id: str
    token: str

    async def call(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, **options: Any
    ) -> httpx.Response:
        """Call the API and return whatever it answers."""
        headers = {"Authorization": f"Bearer {self.token}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        return await self.client.request(method, path, json=body, headers=headers, **options)

    async def done(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, **options: Any
    ) -> Any:
        """Call the API and return the answer's data.

        Raises:
            RefusedError: The answer is not a success.
        """
        answer = await self.call(method, path, body, key=key, **options)
        if answer.status_code >= 300:
            raise RefusedError(f"{method} {path}: {answer.status_code} {answer.text[:2000]}")
        return answer.json()["data"]


class Marketplace:
    """Makes people and lets them do the usual things."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        """Speak to the API behind ``client``."""
        self.client = client

    async def person(self, name: str, *roles: str, tenant: str | None = None) -> Person:
        """Log somebody in, in a tenant of their own unless one is named."""
        tenant = tenant or unique("tenant")
        body = {"name": name, "roles": list(roles), "tenant": tenant, "email": f"{name}@example.com"}
        answer = await self.client.post("/login", json=body)
        if answer.status_code != 200:
            raise RefusedError(answer.text)
        token = answer.json()["data"]
        return Person(self.client, token["user_id"], token["tenant_id"], token["access_token"])

    async def submit(
        self, developer: Person, files: Mapping[str, str | bytes], declared: Mapping[str, Any]
    ) -> httpx.Response:
        """Register a version as its developer."""
        body = {
            "name": declared["name"],
            "slug": declared["slug"],
            "version": declared["version"],
            "manifest": dict(declared),
            "code_base64": base64.b64encode(archive(files)).decode(),
        }
        return await developer.call("POST", "/agents/register", body, key=str(uuid.uuid4()), timeout=120)

    async def publish(
        self,
        developer: Person,
        reviewer: Person,
        files: Mapping[str, str | bytes],
        declared: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Register a version and approve it; returns ``agent_id`` and ``version_id``."""
        answer = await self.submit(developer, files, declared)
        if answer.status_code != 201:
            raise RefusedError(answer.text[:4000])
        registered: dict[str, Any] = answer.json()["data"]
        version = await reviewer.done("GET", f"/agent-versions/{registered['version_id']}")
        await reviewer.done(
            "POST",
            f"/agent-versions/{registered['version_id']}/approve",
            {"code_hash": version["code_hash"], "reason": "Fine."},
        )
        return registered

    async def publish_example(self, developer: Person, reviewer: Person, name: str) -> dict[str, Any]:
        """Publish one of ``examples/agents`` under a slug of its own."""
        folder = EXAMPLES / name
        declared = json.loads((folder / "manifest.json").read_text())
        declared["slug"] = unique(name)
        files = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != "manifest.json" and "inputs" not in path.parts
        }
        return await self.publish(developer, reviewer, files, declared)

    async def deploy(self, user: Person, agent_id: str, config: Any = None) -> str:
        """Deploy the published version; returns the deployment's id."""
        body: dict[str, Any] = {"config": config or {}}
        data = await user.done("POST", f"/agents/{agent_id}/deploy", body)
        return data["deployment_id"]

    async def fund(self, user: Person, amount: int, currency: str = "INR") -> str:
        """Top up the user's wallet; returns the wallet's id."""
        wallet = await user.done("POST", "/wallets", {"currency": currency})
        await user.done(
            "POST",
            f"/wallets/{wallet['wallet_id']}/top-ups",
            {"amount": amount, "currency": currency},
            key=str(uuid.uuid4()),
        )
        return wallet["wallet_id"]
