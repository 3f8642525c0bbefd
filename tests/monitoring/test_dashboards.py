"""Dashboards and rules under docs/monitoring name metrics that exist, in expressions that hold together."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from activities.telemetry.metrics import REGISTRY

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "monitoring"

# What the Temporal SDK tells from its first calls on; `test_metrics` sees them at a real worker.
SDK_METRICS = {
    "temporal_worker_task_slots_available",
    "temporal_request_total",
    "temporal_request_latency_seconds_bucket",
}

FUNCTIONS = {
    *("sum", "max", "min", "topk", "rate", "increase", "histogram_quantile", "time", "absent"),
    *("by", "or", "and", "unless", "on", "le"),
}


def exported() -> set[str]:
    """Every sample name that our own exporters have."""
    names = set[str]()
    for family in REGISTRY.collect():
        kinds = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
        names |= {family.name + suffix for suffix in kinds.get(family.type, [""])}
    return names


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((FOLDER / "alerts.yml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    for rule in rules():
        yield f"alerts.yml: {rule['alert']}", rule["expr"]
    for file in sorted(FOLDER.glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{file.name}: {panel['title']}", target["expr"]


def metrics_of(expression: str) -> set[str]:
    """Names in an expression that are neither functions, labels nor numbers."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\bby \([^)]*\)", " ", expression)
    return set(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", bare)) - FUNCTIONS


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_every_metric_that_is_named_exists(where: str, expression: str) -> None:
    named = metrics_of(expression)
    assert named, where
    assert named <= exported() | SDK_METRICS, where


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_every_expressions_brackets_and_ranges_hold_together(where: str, expression: str) -> None:
    closing, open_brackets = {")": "(", "]": "[", "}": "{"}, list[str]()
    for sign in expression:
        if sign in "([{":
            open_brackets.append(sign)
        elif sign in closing:
            assert open_brackets, where
            assert open_brackets.pop() == closing[sign], where
    assert open_brackets == [], where
    for length in re.findall(r"\[([^\]]*)\]", expression):
        assert re.fullmatch(r"\d+[smhd]|\$__rate_interval", length), where
    for counted in re.findall(r"(\w+_total)\b(?!\{[^}]*\}\[|\[)", expression):
        raise AssertionError(f"{where}: {counted} is a counter and wants rate or increase")


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    assert {"TemporalReportedProblems", "PublisherLag", "DeadLetters", "MoneyInSuspense"} <= set(names)
    for rule in rules():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["remedy"].endswith(".")
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))


def test_dashboards_are_ready_to_import() -> None:
    boards = [json.loads(file.read_text()) for file in FOLDER.glob("*.json")]
    assert len({board["uid"] for board in boards}) == len(boards) == 2
    for board in boards:
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
        assert len(places) == len(set(places))
        assert board["templating"]["list"][0]["type"] == "datasource"


def test_the_scrape_configuration_names_the_documented_ports_and_rules() -> None:
    from models.settings import Settings

    document = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    listed = [each["targets"] for job in document["scrape_configs"] for each in job["static_configs"]]
    settings = Settings()
    assert {target for targets in listed for target in targets} == {
        f"127.0.0.1:{settings.api_metrics_port}",
        f"127.0.0.1:{settings.worker_metrics_port}",
    }
    assert [FOLDER / name for name in document["rule_files"]] == [FOLDER / "alerts.yml"]
