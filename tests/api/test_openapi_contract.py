"""The served OpenAPI document is true: schemathesis finds no 5xx and no answer that breaks its own schema.

Each operation that any router declares is tried against a real server with a worker behind it, with generated
requests that follow the document and with ones that break it. ``SCHEMATHESIS_EXAMPLES`` makes it look longer.
"""

import os
import re
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    missing_required_header,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from api.app import create_app
from api.issuer_key import IssuerKey
from models.identity import Role
from models.settings import Settings
from models.task_queues import TaskQueue
from tests.api.calling import serving, working

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "2"))

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    missing_required_header,
    unsupported_method,
    ignored_auth,
]


@pytest.fixture(scope="module")
def server(api_settings: Settings) -> Iterator[str]:
    # No queue of containers: what waits for a workflow's decision is answered, and no stranger's code runs.
    queues = [each for each in TaskQueue if each is not TaskQueue.SANDBOX]
    with working(api_settings, queues), serving(api_settings) as url:
        yield url


@pytest.fixture(scope="module")
def credentials(issuer_key: IssuerKey, api_settings: Settings) -> dict[str, str]:
    token = issuer_key.issue(
        issuer=api_settings.jwt_issuer,
        audience=api_settings.jwt_audience,
        name="schemathesis",
        tenant_id="schemathesis",
        roles=[Role.ADMIN],
    )
    return {"Authorization": f"Bearer {token}"}


# The document does not depend on the settings, so it can be read before any server runs.
schema: Any = schemathesis.openapi.from_dict(
    create_app(Settings()).openapi(),
    config=SchemathesisConfig(
        projects=ProjectsConfig(
            default=ProjectConfig(generation=GenerationConfig(max_examples=EXAMPLES, allow_x00=True))
        )
    ),
)
_PATHS: list[str] = list(schema.raw_schema["paths"])


def overlaps(path: str) -> bool:
    """Whether another operation's template matches this path, so that its methods are allowed here, too."""
    templates = (re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(other)) for other in _PATHS if other != path)
    return any(re.fullmatch(template, path) for template in templates)


parametrize = cast("Callable[[Callable[..., None]], Callable[..., None]]", schema.parametrize())


@parametrize
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
)
def test_every_answer_of_an_operation_is_documented(
    case: Any, server: str, credentials: dict[str, str]
) -> None:
    excluded = [unsupported_method] if overlaps(case.operation.path) else []
    case.call_and_validate(base_url=server, headers=credentials, checks=CHECKS, excluded_checks=excluded)
