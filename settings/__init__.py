"""The only reader of the stack's configuration: `load()` gives it checked, or one error that lists every problem."""

from settings.models import (
    Cluster,
    EastWestGateway,
    Hosts,
    Istio,
    Probe,
    Service,
    StackConfig,
    VirtualMachine,
    Workload,
)
from settings.problems import Problem, SettingsError
from settings.result import Connection, Settings, SidecarPackage

__all__ = [
    "Cluster",
    "Connection",
    "EastWestGateway",
    "Hosts",
    "Istio",
    "Probe",
    "Problem",
    "Service",
    "Settings",
    "SettingsError",
    "SidecarPackage",
    "StackConfig",
    "VirtualMachine",
    "Workload",
]
