"""The stack's outputs: a contract, described in docs/outputs.md."""

from collections.abc import Mapping
from typing import Any

from components.control_plane import ControlPlane, certificate_digest
from components.gateways import EastWestGateway
from components.ingress import IngressGateway
from components.registration import Registration
from components.services import MeshService
from components.ways import Way
from components.workload import Workload
from settings import Settings, revision_of, tags_of


def of(
    stack: Settings,
    control_plane: ControlPlane,
    ways: Mapping[str, Way],
    gateway: EastWestGateway | None,
    ingress: IngressGateway | None,
    workloads: Mapping[str, Workload],
    services: Mapping[str, MeshService],
    registration: Registration,
) -> dict[str, Any]:
    """Everything that the stack puts out, by name."""
    way, tags = next(iter(ways.values())), tags_of(stack.istio)
    return {
        "schemaVersion": 1,
        "mesh": {
            "id": stack.istio.mesh_id,
            "trustDomain": stack.istio.trust_domain,
            "revision": stack.istio.revision,
            "cluster": stack.cluster.name,
            "network": stack.cluster.network,
            "istiod": {"host": control_plane.istiod_host, "address": way.address, "port": way.port},
            "revisions": {
                revision or "default": {
                    "istiod": istiod.host,
                    "tags": sorted(tag for tag, target in tags.items() if target == revision),
                }
                for revision, istiod in control_plane.istiods.items()
            },
            "gateways": {
                **({"eastWest": gateway.address} if gateway else {}),
                **({"ingress": ingress.address} if ingress and ingress.address else {}),
            },
            "rootCertificateSha256": control_plane.root_certificate.apply(certificate_digest),
        },
        "workloads": {
            name: {
                "host": workloads[name].host,
                "ports": dict(workload.service.ports) if workload.service else {},
                "namespace": workload.namespace,
                "revision": revision_of(stack.istio, workload) or "default",
                "identity": workloads[name].identity,
                "vms": list(workload.vms),
            }
            for name, workload in stack.workloads.items()
        },
        "services": {
            name: {
                "hosts": list(services[name].hosts),
                "ports": dict(service.ports),
                "namespace": service.namespace,
            }
            for name, service in stack.services.items()
        },
        "registration": registration.report,
    }
