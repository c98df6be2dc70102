"""What is read from a proxy's page: of core Envoy as seen in the lab, and of Istio's own metric."""

from __future__ import annotations

from migration.counters import counted
from migration.decision import Count

HOST = "billing.vm-apps.svc.cluster.local"
ENVOY = """\
# TYPE envoy_cluster_external_upstream_rq counter
envoy_cluster_external_upstream_rq{cluster_name="inbound|8080||",response_code_class="2xx"} 7
# TYPE envoy_cluster_upstream_rq counter
envoy_cluster_upstream_rq{cluster_name="inbound|8080||",response_code="200"} 7
envoy_cluster_upstream_rq{cluster_name="inbound|8080||",response_code_class="2xx"} 7
envoy_cluster_upstream_rq{cluster_name="inbound|8080||",response_code_class="4xx"} 2
envoy_cluster_upstream_rq{cluster_name="inbound|8080||;",response_code_class="5xx"} 1
envoy_cluster_upstream_rq{cluster_name="inbound|9090||",response_code_class="2xx"} 1000
envoy_cluster_upstream_rq{cluster_name="outbound|80||x",response_code_class="5xx"} 50
"""
ISTIO = f"""\
# TYPE istio_requests_total counter
istio_requests_total{{reporter="destination",response_code="200",destination_service="{HOST}",response_flags="-"}} 40
istio_requests_total{{reporter="destination",response_code="503",destination_service="{HOST}",response_flags="UF"}} 3
istio_requests_total{{reporter="destination",response_code="0",destination_service="{HOST}",response_flags="DC"}} 1
istio_requests_total{{reporter="destination",response_code="500",destination_service="other.x"}} 9
istio_requests_total{{reporter="source",response_code="500",destination_service="{HOST}"}} 99
"""


def test_core_envoys_clusters_towards_the_application() -> None:
    assert counted(ENVOY, HOST, {8080}) == Count(requests=10, errors=1)
    assert counted(ENVOY, HOST, {8080, 9090}) == Count(requests=1010, errors=1)
    assert counted(ENVOY, HOST, set()) == Count()


def test_istios_metric_goes_first_since_it_knows_the_service() -> None:
    assert counted(ISTIO, HOST, {8080}) == Count(requests=44, errors=4)
    assert counted(ENVOY + ISTIO, HOST, {8080}) == Count(requests=44, errors=4)
    only_others = ISTIO.replace(HOST, "another.x")
    assert counted(ENVOY + only_others, HOST, {8080}) == Count()


def test_a_page_without_counters_shows_no_requests() -> None:
    assert counted("", HOST, {8080}) == Count()
    assert counted("upstream connect error\n", HOST, {8080}) == Count()
