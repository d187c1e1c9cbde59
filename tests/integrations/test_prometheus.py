"""The metrics that the README lists, with their labels, are those that Prometheus gets."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY
from prometheus_client.samples import Sample

from pico_async import PicoSession
from pico_async.integrations.opentelemetry import OpenTelemetry
from pico_async.sandbox import Fault, FaultRule, Sandbox
from tests.support.readme import ROOT

ROWS = re.findall(r"^\| `([\w.]+)` \| `(\w+)` \| `(.+)` \|$", (ROOT / "README.md").read_text(), re.MULTILINE)


@pytest.fixture
def metrics() -> Iterator[MeterProvider]:
    provider = MeterProvider([PrometheusMetricReader()])
    yield provider
    provider.shutdown()  # it leaves the registry, which is one for the process


def exported() -> list[Sample]:
    return [sample for metric in REGISTRY.collect() for sample in metric.samples]


async def test_the_metrics_of_the_readme_are_those_of_prometheus(metrics: MeterProvider) -> None:
    """
    Each query of the README names a metric and labels that Prometheus gets, and no metric of the package is missing.
    """
    sandbox = Sandbox(rate_rule=None, faults=[FaultRule(Fault.RATE_LIMITED, times=1)])
    async with PicoSession(
        username=sandbox.username,
        api_key=sandbox.api_key,
        sender="PICO",
        transport=sandbox.transport(),
        base_url="https://pico-sandbox.invalid",
        on_event=OpenTelemetry(meter_provider=metrics),
    ) as pico:
        await pico.sms.send("8612345678901", "hello")

    samples = exported()
    assert {name for name in (sample.name for sample in samples) if name.startswith(("pico_", "http_"))} == {
        prometheus + suffix
        for _, prometheus, _ in ROWS
        for suffix in (("_bucket", "_count", "_sum") if prometheus.endswith("_seconds") else ("",))
    }
    for name, prometheus, query in ROWS:
        assert prometheus.startswith(name.replace(".", "_"))
        (asked,) = re.findall(r"\b(?:pico_client|http_client)_\w+", query)
        labels = {label for sample in samples if sample.name == asked for label in sample.labels}
        wanted = {label for group in re.findall(r"by \(([^)]*)\)", query) for label in re.split(r",\s*", group)}
        wanted |= set(re.findall(r"(\w+)!?=", query))
        assert labels >= wanted, query
