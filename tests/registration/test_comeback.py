"""Whether a changed VM is in the mesh again, from its WorkloadEntry."""

from typing import Any

import pytest

from registration.comeback import Seen, next_attempt, seen, why_not


def entry(configuration: str = "c1", healthy: str = "True", message: str = "", *, connected: bool = True) -> Any:
    annotations = {"istio.io/connectedAt": "2026-11-21T11:00:00Z"} if connected else {"istio.io/disconnectedAt": "x"}
    condition = {"type": "Healthy", "status": healthy, "message": message}
    return {
        "metadata": {"labels": {"istio-vm-mesh/configuration": configuration}, "annotations": annotations},
        "status": {"conditions": [condition] if healthy else []},
    }


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (None, Seen.NOT_YET),
        (entry(), Seen.BACK),
        (entry(healthy="False"), Seen.NOT_YET),
        (entry(healthy=""), Seen.NOT_YET),
        (entry(connected=False), Seen.NOT_YET),
        (entry("c0"), Seen.OTHER),
        (entry("c0", healthy="False", connected=False), Seen.OTHER),
        ({"metadata": {}}, Seen.OTHER),
    ],
)
def test_what_an_entry_says_of_a_vm_that_has_changed(found: Any, says: Seen) -> None:
    assert seen(found, "c1", has_probe=True) is says


def test_without_a_probe_a_vm_is_back_once_it_is_connected() -> None:
    assert seen(entry(healthy=""), "c1", has_probe=False) is Seen.BACK
    assert seen(entry(healthy="", connected=False), "c1", has_probe=False) is Seen.NOT_YET


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "it has no WorkloadEntry after 60 s"),
        (entry(healthy=""), "its sidecar has not told whether the application is healthy"),
        (
            entry(healthy="False", message="Get http://x/healthz: refused"),
            "it is unhealthy after 60 s: Get http://x/healthz: refused",
        ),
        (entry(healthy="False"), "it is unhealthy after 60 s: no reason is given"),
        (entry(connected=False), "its sidecar has lost istiod again"),
        (entry("c0"), "it is registered with another configuration"),
    ],
)
def test_why_a_vm_is_not_back(found: Any, reason: str) -> None:
    assert why_not(found, "c1", has_probe=True, seconds=60) == reason


def test_to_try_a_configuration_again_is_another_one() -> None:
    assert [next_attempt(configuration) for configuration in ("c1", "c1.1", "c1.9")] == ["c1.1", "c1.2", "c1.10"]
