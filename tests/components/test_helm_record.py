"""What a run does about Helm's record of a release before it installs it."""

from __future__ import annotations

import pytest

from components.helm_record import forget, forgotten_first
from components.take_over import VARIABLES
from tests.fake_cluster import FakeCluster


def test_all_of_helms_records_of_the_release_are_deleted_and_no_others() -> None:
    cluster = FakeCluster(lambda path: {})
    forget(cluster, "istio-system", "istio-base")
    selector = "labelSelector=owner%3Dhelm%2Cname%3Distio-base"
    assert cluster.sent == [("DELETE", f"/api/v1/namespaces/istio-system/secrets?{selector}", None)]


def test_a_run_that_takes_nothing_over_leaves_helms_records_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert forgotten_first(FakeCluster(), "istio-system", "istio-base") is None
