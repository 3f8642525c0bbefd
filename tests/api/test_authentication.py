"""Bearer tokens and API keys: who gets in, and who does not."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI

from api.issuer_key import IssuerKey
from api.state import Services
from api.token import InvalidTokenError, RemoteKeys, TokenVerifier, user_id_of
from models.errors import UnavailableError
from models.identity import Permission, Role
from models.settings import Settings
from models.table import utc_now
from tests.api.calling import TokenFor, bearer, client_of

ISSUER, AUDIENCE = "https://id.example", "switchyard-api"


def claims(**changed: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada",
        "tenant_id": "acme",
        "roles": ["developer", "astronaut"],
        "exp": int(time.time()) + 300,
    }
    facts.update(changed)
    return {name: value for name, value in facts.items() if value is not None}


def public_jwk(key: Any, key_id: str, algorithm: str) -> dict[str, Any]:
    made = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    assert isinstance(made, dict)
    return {**made, "kid": key_id, "use": "sig", "alg": algorithm}


class Provider:
    """An identity provider's key endpoint, with a count of how often it was asked."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys = list(keys)
        self.asked = 0
        self.down = False

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        return httpx.Response(503) if self.down else httpx.Response(200, json={"keys": self.keys})

    @asynccontextmanager
    async def verifier(self) -> AsyncGenerator[tuple[TokenVerifier, RemoteKeys]]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(self.answer)) as client:
            keys = RemoteKeys("https://id.example/jwks", client)
            yield TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE), keys


RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = Ed25519PrivateKey.generate()
KEYS = {"RS256": RSA_KEY, "ES256": EC_KEY, "EdDSA": ED_KEY}


def provider() -> Provider:
    return Provider(*(public_jwk(key, f"key-{name}", name) for name, key in KEYS.items()))


@pytest.mark.parametrize("algorithm", KEYS)
async def test_a_token_of_each_allowed_algorithm_tells_who_calls(algorithm: str) -> None:
    token = jwt.encode(claims(), KEYS[algorithm], algorithm, headers={"kid": f"key-{algorithm}"})
    async with provider().verifier() as (verifier, _):
        principal = await verifier.verify(token)
    assert principal.tenant_id == "acme"
    assert principal.user_id == user_id_of(ISSUER, "acme", "ada")
    assert principal.roles == {Role.DEVELOPER}
    assert principal.scopes is None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"iss": "https://elsewhere.example"}, "from another issuer"),
        ({"aud": "somebody-else"}, "for another audience"),
        ({"exp": int(time.time()) - 120}, "has expired"),
        ({"nbf": int(time.time()) + 600}, "not valid yet"),
        ({"exp": None}, "lacks one of"),
        ({"sub": None}, "lacks one of"),
        ({"aud": None}, "lacks one of"),
        ({"tenant_id": None}, "tenant_id"),
        ({"tenant_id": "../other"}, "tenant_id"),
        ({"tenant_id": 7}, "tenant_id"),
        ({"roles": "admin"}, "roles"),
        ({"sub": "a\x00b"}, "subject"),
    ],
)
async def test_a_token_with_wrong_claims_is_refused_with_the_reason(
    changed: dict[str, Any], reason: str
) -> None:
    token = jwt.encode(claims(**changed), ED_KEY, "EdDSA", headers={"kid": "key-EdDSA"})
    async with provider().verifier() as (verifier, _):
        with pytest.raises(InvalidTokenError, match=reason):
            await verifier.verify(token)


def unsigned(header: dict[str, Any], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims()).encode()]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


async def test_a_token_without_signature_is_refused() -> None:
    async with provider().verifier() as (verifier, _):
        for algorithm in ("none", "None", "NONE", ""):
            with pytest.raises(InvalidTokenError):
                await verifier.verify(unsigned({"alg": algorithm, "kid": "key-RS256"}))


async def test_the_public_key_does_not_serve_as_an_hmac_secret() -> None:
    pem = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    token = unsigned({"alg": "HS256", "kid": "key-RS256"})
    signed = token.rpartition(".")[0].encode()
    forged = unsigned({"alg": "HS256", "kid": "key-RS256"}, hmac.new(pem, signed, hashlib.sha256).digest())
    async with provider().verifier() as (verifier, _):
        with pytest.raises(InvalidTokenError, match="must be signed with one of"):
            await verifier.verify(forged)


async def test_a_key_verifies_its_own_algorithm_only() -> None:
    token = jwt.encode(claims(), EC_KEY, "ES256", headers={"kid": "key-RS256"})
    async with provider().verifier() as (verifier, _):
        with pytest.raises(InvalidTokenError, match="key is not known"):
            await verifier.verify(token)


async def test_a_token_signed_by_a_stranger_under_a_known_key_id_is_refused() -> None:
    token = jwt.encode(claims(), Ed25519PrivateKey.generate(), "EdDSA", headers={"kid": "key-EdDSA"})
    async with provider().verifier() as (verifier, _):
        with pytest.raises(InvalidTokenError, match="signature is wrong"):
            await verifier.verify(token)


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "....", "é.é.é", "A" * 9000, "eyJhbGciOiJbXSJ9.e30."])
async def test_a_malformed_token_is_refused(token: str) -> None:
    async with provider().verifier() as (verifier, _):
        with pytest.raises(InvalidTokenError):
            await verifier.verify(token)


async def test_a_new_key_of_the_provider_is_found_without_a_restart() -> None:
    rotated = Ed25519PrivateKey.generate()
    source = provider()
    token = jwt.encode(claims(), rotated, "EdDSA", headers={"kid": "key-2"})
    async with source.verifier() as (verifier, keys):
        with pytest.raises(InvalidTokenError):
            await verifier.verify(token)
        source.keys = [public_jwk(rotated, "key-2", "EdDSA")]
        keys._tried_at -= 60
        assert (await verifier.verify(token)).tenant_id == "acme"


async def test_made_up_key_ids_do_not_make_us_ask_the_provider_each_time() -> None:
    source = provider()
    async with source.verifier() as (verifier, _):
        for number in range(50):
            token = jwt.encode(claims(), ED_KEY, "EdDSA", headers={"kid": f"made-up-{number}"})
            with pytest.raises(InvalidTokenError):
                await verifier.verify(token)
    assert source.asked == 1


async def test_known_keys_stay_in_use_while_the_provider_is_away() -> None:
    source = provider()
    token = jwt.encode(claims(), ED_KEY, "EdDSA", headers={"kid": "key-EdDSA"})
    async with source.verifier() as (verifier, keys):
        await verifier.verify(token)
        source.down = True
        keys._read_at -= 3600
        keys._tried_at -= 3600
        assert (await verifier.verify(token)).tenant_id == "acme"


async def test_a_provider_that_never_answered_makes_the_api_unavailable_not_unauthorised() -> None:
    source = provider()
    source.down = True
    token = jwt.encode(claims(), ED_KEY, "EdDSA", headers={"kid": "key-EdDSA"})
    async with source.verifier() as (verifier, _):
        with pytest.raises(UnavailableError):
            await verifier.verify(token)


async def test_symmetric_and_encryption_keys_of_a_key_set_are_ignored() -> None:
    secret = base64.urlsafe_b64encode(b"s" * 32).decode()
    source = Provider(
        {"kty": "oct", "k": secret, "kid": "hmac", "alg": "HS256"},
        {**public_jwk(ED_KEY, "key-EdDSA", "EdDSA"), "use": "enc"},
        {"kty": "OKP", "crv": "Ed25519", "x": "!", "kid": "broken"},
    )
    async with source.verifier() as (verifier, _):
        with pytest.raises(UnavailableError):
            await verifier.verify(jwt.encode(claims(), ED_KEY, "EdDSA", headers={"kid": "key-EdDSA"}))


def test_one_subject_in_two_tenants_is_two_users() -> None:
    first, second = user_id_of(ISSUER, "acme", "ada"), user_id_of(ISSUER, "other", "ada")
    assert first != second
    assert user_id_of(ISSUER, "acme", "ada") == first
    assert first[4 + 12] == "8", "UUID version 8"


# -- Over HTTP -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "UNAUTHENTICATED"),
        ({"Authorization": "Basic YTpi"}, "UNAUTHENTICATED"),
        ({"Authorization": "Bearer"}, "UNAUTHENTICATED"),
        ({"Authorization": "Bearer nonsense"}, "INVALID_TOKEN"),
        ({"Authorization": "Bearer sk_unknown"}, "INVALID_API_KEY"),
        ({"X-Api-Key": "sk_unknown"}, "INVALID_API_KEY"),
    ],
)
async def test_bad_credentials_get_401_with_a_challenge(
    client: httpx.AsyncClient, headers: dict[str, str], code: str
) -> None:
    answer = await client.get("/me", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="switchyard"'
    assert answer.json()["error"]["code"] == code


async def test_a_token_tells_the_caller_who_they_are(
    client: httpx.AsyncClient, token_for: TokenFor, tenant: str
) -> None:
    answer = await client.get("/me", headers=bearer(token_for("ada", Role.REVIEWER)))
    assert answer.status_code == 200
    data = answer.json()["data"]
    assert (data["tenant_id"], data["name"], data["roles"]) == (tenant, "ada", ["reviewer"])
    assert "agents:review" in data["permissions"]
    assert "agents:publish" not in data["permissions"]


async def test_an_expired_token_is_refused(client: httpx.AsyncClient, token_for: TokenFor) -> None:
    answer = await client.get("/me", headers=bearer(token_for(lifetime_seconds=-120)))
    assert answer.status_code == 401
    assert "expired" in answer.json()["error"]["message"]


async def test_whoever_calls_is_remembered_once_with_name_and_address(
    client: httpx.AsyncClient, token_for: TokenFor, tenant: str
) -> None:
    for _ in range(3):
        await client.get("/me", headers=bearer(token_for("grace", Role.DEVELOPER)))
    answer = await client.get("/users", headers=bearer(token_for("root", Role.ADMIN)))
    listed = {entry["name"]: entry for entry in answer.json()["data"]["items"]}
    assert listed["grace"]["email"] == f"grace@{tenant}.localhost"
    one = await client.get(f"/users/{listed['grace']['user_id']}", headers=bearer(token_for("root")))
    assert one.json()["data"] == listed["grace"]


async def test_users_of_another_tenant_are_not_found(client: httpx.AsyncClient, token_for: TokenFor) -> None:
    me = await client.get("/me", headers=bearer(token_for("ada")))
    stranger = bearer(token_for("mallory", tenant_id="mallorys"))
    answer = await client.get(f"/users/{me.json()['data']['user_id']}", headers=stranger)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "USER_NOT_FOUND"


async def make_key(client: httpx.AsyncClient, token: str, *scopes: str, **more: Any) -> dict[str, Any]:
    answer = await client.post(
        "/api-keys", headers=bearer(token), json={"name": "ci", "scopes": list(scopes), **more}
    )
    assert answer.status_code == 201, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def test_an_api_key_is_shown_once_and_stored_as_a_hash(
    client: httpx.AsyncClient, token_for: TokenFor, app_services: Services, tenant: str
) -> None:
    token = token_for("ada", Role.DEVELOPER)
    made = await make_key(client, token, "agents:publish")
    assert made["key"].startswith("sk_")
    listed = (await client.get("/api-keys", headers=bearer(token))).json()["data"]["items"]
    assert [entry["api_key_id"] for entry in listed] == [made["api_key_id"]]
    assert "key" not in listed[0]
    async with app_services.database.tenant(tenant) as connection:
        row = await (await connection.execute("SELECT * FROM api_keys")).fetchone()
        answers = await (await connection.execute("SELECT * FROM idempotency_records")).fetchall()
    assert made["key"] not in str(row)
    assert made["key"] not in str(answers)


async def test_a_repeated_key_creation_makes_one_key_and_does_not_show_it_again(
    client: httpx.AsyncClient, token_for: TokenFor, app_services: Services, tenant: str
) -> None:
    headers = {**bearer(token_for("ada", Role.DEVELOPER)), "Idempotency-Key": "make-one"}
    body = {"name": "ci", "scopes": ["runs:read"]}
    first = await client.post("/api-keys", headers=headers, json=body)
    second = await client.post("/api-keys", headers=headers, json=body)
    assert first.status_code == second.status_code == 201
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.json()["data"] == {**first.json()["data"], "key": None}
    async with app_services.database.tenant(tenant) as connection:
        stored = await (await connection.execute("SELECT * FROM idempotency_records")).fetchall()
        count = await (await connection.execute("SELECT count(*) AS n FROM api_keys")).fetchone()
    assert first.json()["data"]["key"].encode() not in stored[0]["response_body"]
    assert count == {"n": 1}


@pytest.mark.parametrize("header", ["Authorization", "X-Api-Key"])
async def test_an_api_key_may_do_what_its_scopes_say_and_no_more(
    client: httpx.AsyncClient, token_for: TokenFor, header: str
) -> None:
    made = await make_key(client, token_for("ada", Role.ADMIN), "runs:read", "runs:operate")
    value = f"Bearer {made['key']}" if header == "Authorization" else made["key"]
    me = await client.get("/me", headers={header: value})
    assert me.json()["data"]["permissions"] == ["runs:read", "runs:operate"]
    assert (await client.get("/users", headers={header: value})).status_code == 200
    refused = await client.get("/api-keys", headers={header: value})
    assert refused.status_code == 403
    assert refused.json()["error"]["details"]["permission"] == "api_keys:write"


async def test_a_key_gets_no_permission_that_its_maker_lacks(
    client: httpx.AsyncClient, token_for: TokenFor
) -> None:
    answer = await client.post(
        "/api-keys",
        headers=bearer(token_for("ada", Role.USER)),
        json={"name": "ci", "scopes": ["agents:deploy", "agents:review"]},
    )
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "SCOPE_NOT_HELD"
    assert answer.json()["error"]["details"] == {"scopes": ["agents:review"]}


async def test_a_key_made_with_a_key_stays_within_its_scopes(
    client: httpx.AsyncClient, token_for: TokenFor
) -> None:
    made = await make_key(client, token_for("ada", Role.ADMIN), "api_keys:write")
    answer = await client.post(
        "/api-keys", headers={"X-Api-Key": made["key"]}, json={"name": "more", "scopes": ["runs:read"]}
    )
    assert answer.json()["error"]["code"] == "SCOPE_NOT_HELD"


async def test_a_revoked_key_is_refused_at_once(client: httpx.AsyncClient, token_for: TokenFor) -> None:
    token = token_for("ada", Role.DEVELOPER)
    made = await make_key(client, token, "runs:read")
    assert (await client.get("/me", headers={"X-Api-Key": made["key"]})).status_code == 200
    for _ in range(2):
        revoked = await client.delete(f"/api-keys/{made['api_key_id']}", headers=bearer(token))
        assert revoked.json()["data"]["revoked_at"]
    answer = await client.get("/me", headers={"X-Api-Key": made["key"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "INVALID_API_KEY")


async def test_nobody_revokes_somebody_elses_key(client: httpx.AsyncClient, token_for: TokenFor) -> None:
    made = await make_key(client, token_for("ada", Role.DEVELOPER), "runs:read")
    for stranger in (token_for("bob", Role.DEVELOPER), token_for("eve", Role.ADMIN, tenant_id="eves")):
        answer = await client.delete(f"/api-keys/{made['api_key_id']}", headers=bearer(stranger))
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "API_KEY_NOT_FOUND")
    assert (await client.get("/me", headers={"X-Api-Key": made["key"]})).status_code == 200


async def test_an_expired_key_is_refused(
    client: httpx.AsyncClient, token_for: TokenFor, app_services: Services, tenant: str
) -> None:
    until = (utc_now() + timedelta(days=1)).isoformat()
    made = await make_key(client, token_for("ada", Role.DEVELOPER), "runs:read", expires_at=until)
    async with app_services.database.tenant(tenant) as connection:
        await connection.execute("UPDATE api_keys SET expires_at = now() - interval '1 second'")
    answer = await client.get("/me", headers={"X-Api-Key": made["key"]})
    assert answer.json()["error"]["code"] == "INVALID_API_KEY"


async def test_a_key_that_ends_in_the_past_is_not_made(
    client: httpx.AsyncClient, token_for: TokenFor
) -> None:
    answer = await client.post(
        "/api-keys",
        headers=bearer(token_for("ada")),
        json={"name": "ci", "scopes": ["runs:read"], "expires_at": "2020-01-01T00:00:00Z"},
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "KEY_EXPIRY_INVALID")


async def test_a_callers_keys_come_in_pages(client: httpx.AsyncClient, token_for: TokenFor) -> None:
    token = token_for("ada", Role.DEVELOPER)
    made = [(await make_key(client, token, "runs:read"))["api_key_id"] for _ in range(5)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = (await client.get("/api-keys", headers=bearer(token), params=query)).json()["data"]
        assert len(page["items"]) <= 2
        seen += [entry["api_key_id"] for entry in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == made[::-1]


async def test_a_missing_permission_names_the_roles_that_have_it(
    client: httpx.AsyncClient, token_for: TokenFor
) -> None:
    answer = await client.get("/users", headers=bearer(token_for("ada", Role.USER)))
    assert answer.status_code == 403
    assert answer.json()["error"]["details"] == {
        "permission": Permission.RUNS_OPERATE,
        "roles": ["admin", "operator"],
    }


# -- The embedded issuer ---------------------------------------------------------------------------------


async def test_login_by_name_gives_a_token_that_works(client: httpx.AsyncClient) -> None:
    answer = await client.post("/login", json={"name": "ada", "roles": ["developer"], "tenant": "acme"})
    assert answer.status_code == 200
    data = answer.json()["data"]
    me = (await client.get("/me", headers=bearer(data["access_token"]))).json()["data"]
    assert (me["user_id"], me["tenant_id"], me["roles"]) == (data["user_id"], "acme", ["developer"])


async def test_the_published_key_verifies_the_issuers_tokens(
    client: httpx.AsyncClient, issuer_key: IssuerKey, api_settings: Settings
) -> None:
    keys = (await client.get("/.well-known/jwks.json")).json()["keys"]
    token = (await client.post("/login", json={"name": "ada"})).json()["data"]["access_token"]
    decoded = jwt.decode(
        token,
        jwt.PyJWK(keys[0]),
        algorithms=["EdDSA"],
        audience=api_settings.jwt_audience,
        issuer=api_settings.jwt_issuer,
    )
    assert decoded["sub"] == "ada"
    assert "d" not in keys[0]
    discovered = (await client.get("/.well-known/openid-configuration")).json()
    assert discovered["issuer"] == api_settings.jwt_issuer


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("192.0.2.7", {}),
        ("127.0.0.1", {"Host": "attacker.example"}),
        ("127.0.0.1", {"X-Forwarded-For": "192.0.2.7"}),
        ("127.0.0.1", {"Forwarded": "for=192.0.2.7"}),
    ],
)
async def test_login_by_name_is_for_this_machine_only(
    app: FastAPI, peer: str, headers: dict[str, str]
) -> None:
    async with client_of(app, peer) as client:
        answer = await client.post("/login", json={"name": "ada"}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "ISSUER_DISABLED")
