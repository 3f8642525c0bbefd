"""Prometheus metrics: the names of flowgrid-level3 §8.2, served with the Temporal SDK's."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from activities.monitoring import Measurer
from activities.records.database import Database
from activities.streams.publisher import Publisher
from activities.telemetry.exporter import exporting
from activities.telemetry.metrics import MAX_SERIES, OTHER, REGISTRY, Series, observe_measurements
from cli.stack.ports import free_ports
from cli.stack.process import wait_until
from models.event import EventType, NewEvent
from models.identifiers import new_identifier
from models.run import RunKind, RunStatus
from models.settings import Settings
from tests.monitoring.conftest import Story
from tests.monitoring.test_dashboards import SDK_METRICS


def scrape(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=5) as answer:
        return answer.read().decode()


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_what_is_measured_is_counted_under_the_documents_names(store: Database, story: Story) -> None:
    tenant, agent = new_identifier("tenant"), new_identifier("agent")
    publisher = Publisher(store)
    while await publisher.pass_once():
        continue
    while await Measurer(store).pass_once():
        continue
    before = value("flows_completed_total", kind="agent_execution")
    paid = NewEvent(type=EventType.PAYMENT_SETTLED, key="paid", data={"amount": 50, "currency": "INR"})
    await story(tenant, RunKind.AGENT_EXECUTION, agent, [paid], ends=RunStatus.SUCCEEDED)
    lost = NewEvent(type=EventType.RUN_FAILED, key="ended", data={"code": "INFRASTRUCTURE_LOST"})
    await story(tenant, RunKind.AGENT_EXECUTION, agent, ends=RunStatus.FAILED, ending=[lost])
    await publisher.pass_once()
    measurer = Measurer(store, observe_measurements)
    while await measurer.pass_once():
        continue
    assert value("flows_completed_total", kind="agent_execution") == before + 1
    assert value("agent_invocations_total", agent_slug=agent, tenant_id=tenant) == 2
    assert value("agent_errors_total", agent_slug=agent, error_type="INFRASTRUCTURE_LOST") == 1
    assert value("agent_duration_seconds_count", agent_slug=agent) == 1
    assert value("agent_cost_total", agent_slug=agent, model="", tenant_id=tenant, currency="INR") == 0.5


def test_label_sets_are_bounded() -> None:
    from prometheus_client import CollectorRegistry, Counter

    registry = CollectorRegistry()
    series = Series(Counter("visits", "Visits.", ["who"], registry=registry))
    for number in range(MAX_SERIES + 50):
        series.labels(str(number)).inc()
    assert registry.get_sample_value("visits_total", {"who": OTHER}) == 50


@pytest.fixture(scope="module")
def worker_metrics(services: Settings) -> Iterator[str]:
    """The metrics of a real worker process."""
    port = free_ports(1)[0]
    here = services.model_copy(update={"worker_metrics_port": port, "task_queues": "core"})
    process = subprocess.Popen(
        [sys.executable, "-m", "worker"],
        env={**os.environ, **here.as_environment()},
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/metrics"

    def ready() -> bool:
        try:
            return "last_sample_timestamp_seconds 0.0" not in scrape(url) and "temporal_" in scrape(url)
        except OSError:
            return False

    try:
        wait_until(lambda: ready() or process.poll() is not None, 60)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def test_a_worker_tells_its_own_metrics_and_the_sdks_on_loopback(worker_metrics: str) -> None:
    text = scrape(worker_metrics)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert "publisher_lag_seconds" in families
    assert "workflow_reported_problems" in families
    assert set(re.findall(r"^(temporal_\w+)\{", text, re.MULTILINE)) >= SDK_METRICS
    assert families["task_queue_depth"].samples
    assert families["last_sample_timestamp_seconds"].samples[0].value > 0


def test_a_port_that_is_taken_stops_no_process() -> None:
    port = free_ports(1)[0]
    with exporting("127.0.0.1", port, sdk=False) as first, exporting("127.0.0.1", port, sdk=False) as second:
        assert first is not None
        assert second is None
        assert "active_flows" in scrape(first)


def test_every_metric_name_follows_prometheus_rules() -> None:
    for family in REGISTRY.collect():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name)
        assert family.documentation.endswith(".")
