"""Each server of the embedded stack does its work for the clients Switchyard uses."""

import boto3
import httpx
import psycopg
import pytest
from temporalio.client import Client

from cli.stack.temporal import SEARCH_ATTRIBUTES
from models.settings import Settings


@pytest.mark.parametrize("url", ["database_url", "database_platform_url", "database_owner_url"])
def test_every_database_role_logs_in_and_none_may_bypass_row_security(postgres: Settings, url: str) -> None:
    with psycopg.connect(getattr(postgres, url).get_secret_value()) as connection:
        row = connection.execute(
            "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles "
            "WHERE rolname = current_user"
        ).fetchone()
    assert row == (False, False, False, False)


def test_a_wrong_password_is_refused_even_on_loopback(postgres: Settings) -> None:
    url = postgres.database_url.get_secret_value()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url, password="wrong")


async def test_temporal_knows_our_search_attributes(temporal_server: Settings) -> None:
    client = await Client.connect(temporal_server.temporal_address)
    for name in SEARCH_ATTRIBUTES:
        assert await client.count_workflows(f"{name} = 'x'")  # an unknown attribute raises


async def test_temporal_shows_its_web_ui(temporal_server: Settings) -> None:
    async with httpx.AsyncClient() as client:
        assert (await client.get(temporal_server.temporal_ui_url)).status_code == 200


def test_the_bucket_keeps_what_is_put_there(object_store: Settings) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=object_store.s3_endpoint_url,
        region_name=object_store.s3_region,
        aws_access_key_id=object_store.s3_access_key_id,
        aws_secret_access_key=object_store.s3_secret_access_key.get_secret_value(),
    )
    s3.put_object(Bucket=object_store.s3_bucket, Key="a/b", Body=b"content")
    assert s3.get_object(Bucket=object_store.s3_bucket, Key="a/b")["Body"].read() == b"content"
    anonymous = httpx.get(f"{object_store.s3_endpoint_url}/{object_store.s3_bucket}/a/b")
    assert anonymous.status_code == 403
