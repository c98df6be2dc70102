"""What each component gets of a stack's settings: the only place that knows both."""

from arguments.control_plane import (
    cluster_access,
    confirmation_args,
    control_plane_args,
    existing_args,
    gateway_args,
    tags_args,
    ways_to_istiod,
)
from arguments.ingress import ingress_args
from arguments.machines import (
    agent_warning,
    credentials,
    machine_args,
    registration_args,
    rollout_args,
    told,
    workload_args,
    workloads_args,
)
from arguments.migration import migration_steps
from arguments.namespaces import namespace_args, policies_args, service_args
from arguments.traffic import policy_args

__all__ = [
    "agent_warning",
    "cluster_access",
    "confirmation_args",
    "control_plane_args",
    "credentials",
    "existing_args",
    "gateway_args",
    "ingress_args",
    "machine_args",
    "migration_steps",
    "namespace_args",
    "policies_args",
    "policy_args",
    "registration_args",
    "rollout_args",
    "service_args",
    "tags_args",
    "told",
    "ways_to_istiod",
    "workload_args",
    "workloads_args",
]
