"""The description is kept: whatever is generated from it, good or bad, is answered as it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.core.result import Ok

from common.settings import Settings
from penstock.operations import PipelineOperations
from tests.integration.serve.served import Served

EXAMPLES = 6


def no_failure(_context: Any, answer: Any, _case: Any) -> None:
    """Nothing breaks; 501 says that there is no scheduler here."""
    assert answer.status_code < 500 or answer.status_code == 501


CHECKS = [no_failure, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_generated_requests_are_answered_as_the_description_says(
    start: Callable[..., Served], tmp_path: Path, mode: GenerationMode
) -> None:
    served = start(operations=PipelineOperations(Settings.load({}, home=tmp_path)))
    scopes = ["read", "sql", "operate"]
    token, _ = served.issuer.issue("admin", scopes, subject="t", audience="penstock", expires_in_s=3600)
    schema = schemathesis.openapi.from_asgi("/v1/openapi.json", served.service.app)
    headers = {"Authorization": f"Bearer {token}"}
    answered = set()
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and not list(operation.iter_parameters()) and not operation.body:
            continue  # nothing can be wrong in it

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(headers=headers, checks=CHECKS)

        ask()
        answered.add(operation.label)
    assert len(answered) >= 17


def test_every_route_says_its_scope_and_shows_an_answer_that_fits_its_schema(served: Served) -> None:
    described = served.client.get("/v1/openapi.json").json()
    scopes = {}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            scopes[method, path] = [each for needed in operation["security"] for each in needed["bearer"]]
            content = operation["responses"]["200"]["content"]["application/json"]
            schema = {**content["schema"], "components": described["components"]}
            jsonschema.validate(content["example"], schema)
    assert [key for key, found in scopes.items() if not found] == [("get", "/health")]
    assert scopes["post", "/v1/sql"] == ["sql"]
    does = {key for key, found in scopes.items() if found == ["operate"]}
    assert does >= {("post", "/v1/backfills"), ("post", "/v1/releases/{release_id}/rollback")}
    assert {method for method, _ in does} == {"post", "get"}
