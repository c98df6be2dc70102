"""The only reader of the stack's configuration: `load()` gives it checked, or one error that lists every problem."""

from settings.checks import CLUSTER_DOMAIN, service_host
from settings.ingress import destination_port
from settings.ingress_models import IngressGateway, IngressHost
from settings.models import Cluster, EastWestGateway, Hosts, Istio, StackConfig
from settings.parsing import parse
from settings.problems import Problem, SettingsError
from settings.result import BastionLogin, Connection, Login, Settings, SidecarPackage
from settings.revision_models import ControlPlaneRevision
from settings.revisions import revision_of, tags_of
from settings.route_models import Route
from settings.source import load
from settings.stack_file import from_stack_file
from settings.ways import routes_of
from settings.workload_models import Probe, Service, VirtualMachine, Workload

__all__ = [
    "CLUSTER_DOMAIN",
    "BastionLogin",
    "Cluster",
    "Connection",
    "ControlPlaneRevision",
    "EastWestGateway",
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
    "load",
    "parse",
    "revision_of",
    "routes_of",
    "service_host",
    "tags_of",
]
