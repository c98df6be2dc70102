"""The only reader of the stack's configuration: `load()` gives it checked, or one error that lists every problem."""

from settings.ingress import destination_port
from settings.ingress_models import IngressGateway, IngressHost
from settings.models import Cluster, EastWestGateway, Hosts, Istio, StackConfig
from settings.parsing import parse
from settings.problems import Problem, SettingsError
from settings.protocols import protocol_of
from settings.result import BastionLogin, Connection, Login, Settings, SidecarPackage
from settings.revision_models import ControlPlaneRevision
from settings.revision_names import revision_of, tags_of
from settings.route_models import Route
from settings.service_hosts import CLUSTER_DOMAIN, in_cluster_domain, service_host
from settings.source import load
from settings.stack_file import from_stack_file
from settings.traffic import mesh_host, subsets_in_use
from settings.traffic_models import HostTraffic
from settings.ways import routes_of
from settings.workload_models import Probe, Service, VirtualMachine, Workload

__all__ = [
    "CLUSTER_DOMAIN",
    "BastionLogin",
    "Cluster",
    "Connection",
    "ControlPlaneRevision",
    "EastWestGateway",
    "HostTraffic",
    "Hosts",
    "IngressGateway",
    "IngressHost",
    "Istio",
    "Login",
    "Probe",
    "Problem",
    "Route",
    "Service",
    "Settings",
    "SettingsError",
    "SidecarPackage",
    "StackConfig",
    "VirtualMachine",
    "Workload",
    "destination_port",
    "from_stack_file",
    "in_cluster_domain",
    "load",
    "mesh_host",
    "parse",
    "protocol_of",
    "revision_of",
    "routes_of",
    "service_host",
    "subsets_in_use",
    "tags_of",
]
