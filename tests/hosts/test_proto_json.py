"""ProxyConfig as protobuf's JSON writes it."""

from typing import Any

import pytest

from hosts.proto_json import apply
from hosts.proxy_config import PROXY_CONFIG


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({"statusPort": 0, "configPath": "", "extraStatTags": [], "runtimeValues": {}}, {}),
        ({"status_port": "16000"}, {"statusPort": 16000}),
        ({"concurrency": 0, "preserved": 0}, {"concurrency": 0}),
        ({"holdApplicationUntilProxyStarts": False}, {"holdApplicationUntilProxyStarts": False}),
        ({"drainDuration": "1m30.25s"}, {"drainDuration": "90.250s"}),
        ({"drainDuration": "0"}, {"drainDuration": "0s"}),
        ({"drainDuration": "-1us"}, {"drainDuration": "-0.000001s"}),
        ({"interceptionMode": "REDIRECT"}, {}),
        ({"interceptionMode": 1}, {"interceptionMode": "TPROXY"}),
        ({"tracingServiceName": 0}, {"tracingServiceName": "APP_LABEL_AND_NAMESPACE"}),
        ({"serviceCluster": "a", "tracingServiceName": 1}, {"tracingServiceName": "CANONICAL_NAME_ONLY"}),
        ({"image": {}, "unknown": 1, "meshId": None}, {"image": {}}),
        ({"tracing": {"enableIstioTags": False, "sampling": 0}}, {"tracing": {"enableIstioTags": False}}),
    ],
)
def test_fields(given: dict[str, Any], written: dict[str, Any]) -> None:
    assert apply(PROXY_CONFIG, {}, given) == written


def test_a_field_is_replaced_whole_and_zero_takes_it_away() -> None:
    current = {"tracing": {"sampling": 1.0}, "meshId": "m", "proxyMetadata": {"A": "1"}}
    patch = {"tracing": {"maxPathTagLength": 9}, "meshId": "", "proxyMetadata": {"B": "2"}}
    assert apply(PROXY_CONFIG, current, patch) == {"tracing": {"maxPathTagLength": 9}, "proxyMetadata": {"B": "2"}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"statusPort": True}, "statusPort: not a number (got True)"),
        ({"statusPort": 2**31}, "statusPort: not an int32 (got 2147483648)"),
        ({"configPath": 1}, "configPath: not a string (got 1)"),
        ({"proxyMetadata": {"A": 1}}, "proxyMetadata.A: not a string (got 1)"),
        ({"drainDuration": "5"}, "drainDuration: not a duration such as 1m30s (got '5')"),
        ({"interceptionMode": "ALL"}, "interceptionMode: not one of REDIRECT, TPROXY, NONE (got 'ALL')"),
        ({"tracing": {"zipkin": []}}, "tracing.zipkin: not a mapping (got [])"),
    ],
)
def test_what_the_message_cannot_hold(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        apply(PROXY_CONFIG, {}, given)
    assert str(raised.value) == message
