"""The stack's outputs: a contract, described in docs/outputs.md."""

from collections.abc import Mapping
from typing import Any

from components.confirmation import Confirmation
from components.control_plane import Mesh, certificate_digest
from components.gateways import EastWestGateway
from components.registration import Registration
from components.ways import Way
from components.workload import Workload
from settings import Settings


def of(
    stack: Settings,
    control_plane: Mesh,
    way: Way,
    gateway: EastWestGateway | None,
    workloads: Mapping[str, Workload],
    registration: Registration,
    confirmation: Confirmation,
) -> dict[str, Any]:
    """Everything that the stack puts out, by name."""
    return {
        "schemaVersion": 1,
        "mesh": {
            "id": stack.istio.mesh_id,
            "trustDomain": stack.istio.trust_domain,
            "revision": stack.istio.revision,
            "cluster": stack.cluster.name,
            "network": stack.cluster.network,
            "istiod": {"host": control_plane.istiod_host, "address": way.address, "port": way.port},
            "gateways": {"eastWest": gateway.address} if gateway else {},
            "rootCertificateSha256": control_plane.root_certificate.apply(certificate_digest),
            "controlPlane": confirmation.report,
        },
        "workloads": {
            name: {
                "host": workloads[name].host,
                "ports": dict(workload.service.ports) if workload.service else {},
                "namespace": workload.namespace,
                "identity": workloads[name].identity,
                "vms": list(workload.vms),
            }
            for name, workload in stack.workloads.items()
        },
        "registration": registration.report,
    }
