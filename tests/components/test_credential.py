"""A VM's credential: what is asked of the cluster, what is made, and where the token may be seen."""

from typing import Any

import pulumi
from pulumi_kubernetes.meta.v1.outputs import ObjectMeta
from recording import Run, run, secrets

from components.credential import (
    CredentialArgs,
    Credentials,
    CredentialsArgs,
    issue,
    mark_used,
    token_command,
    token_name,
)
from components.kubectl import ClusterAccess
from registration.credentials import ASKED, Holder, Wanted, parse
from registration.ladder import DeclaredVm

ACCESS = ClusterAccess(kubeconfig=".lab/kubeconfig")
HOLDERS = [
    Holder(vm=DeclaredVm(name=name, namespace="vm-apps", workload="billing", address=address), identity="x")
    for name, address in (("billing-1", "10.77.0.21"), ("billing-2", "10.77.0.22"))
]


def arguments(**changes: Any) -> CredentialArgs:
    given: dict[str, Any] = {
        "access": ACCESS,
        "vm": "billing-1",
        "namespace": "vm-apps",
        "service_account": "billing",
        "identity": "spiffe://x at 10.77.0.21",
        "entry": "billing-10.77.0.21-net1",
        "minutes": 30,
        "wanted": Wanted(),
        "triggers": ["10.77.0.21"],
    }
    return CredentialArgs(**{**given, **changes})


def issued(*, preview: bool = False, **changes: Any) -> Run:
    def program() -> dict[str, Any]:
        args = arguments(**changes)
        vm, first, second = (pulumi.CustomResource("test:index:Leaf", name, {}) for name in ("vm", "first", "second"))
        credential = issue(args, vm, after=[first], before_token=[second])
        mark_used(args, pulumi.ResourceOptions(parent=vm, depends_on=[credential.token]))
        return {"name": token_name(args), "token": credential.token.stdout}

    return run(program, preview=preview)


def test_all_vms_are_looked_at_in_one_go_and_without_a_wait() -> None:
    asked: list[dict[str, Any]] = []

    def invoked(command: str, args: dict[str, Any]) -> str:
        assert command.endswith("-m registration.credential_reader")
        asked.append(args)
        return '{"billing-1": {"number": 2, "because": "why"}, "billing-2": {"number": 1, "because": ""}}'

    def program() -> dict[str, Any]:
        return dict(Credentials("c", CredentialsArgs(access=ACCESS, holders=HOLDERS, token_minutes=30)).wanted)

    for preview in (True, False):
        done = run(program, invoked, preview=preview)
        assert done.values == {"billing-1": Wanted(number=2, because="why"), "billing-2": Wanted(number=1)}
        assert done.names == {"c"}
    request = parse(asked[0]["stdin"])
    assert (list(request.holders), request.token_seconds, request.kubeconfig) == (HOLDERS, 1800, ".lab/kubeconfig")
    assert len(asked) == 2


def test_a_token_is_bound_to_its_secret_and_stays_secret() -> None:
    done = issued()
    token, secret, mark = (done[f"billing-1-{part}"] for part in ("token", "secret", "enrolled"))
    assert token.inputs["create"].endswith(
        "create token billing --namespace=vm-apps --audience=istio-ca --duration=30m --bound-object-kind=Secret "
        "--bound-object-name=istio-vm-billing-1 --bound-object-uid=uid-of-billing-1-secret"
    )
    assert token.secret_outputs == {"stdout", "stderr"}
    assert (token.inputs["logging"], token.inputs["addPreviousOutputInEnv"]) == ("none", False)
    assert token.inputs["triggers"] == ["10.77.0.21"]
    assert (secret.dependency_names, token.dependency_names) == ({"first"}, {"second", "billing-1-secret"})
    assert secret.parent_name == token.parent_name == "vm"
    metadata = {
        "name": "istio-vm-billing-1",
        "namespace": "vm-apps",
        "labels": {"istio-vm-mesh/vm": "billing-1"},
        "annotations": {
            "istio-vm-mesh/identity": "spiffe://x at 10.77.0.21",
            "istio-vm-mesh/entry": "billing-10.77.0.21-net1",
        },
    }
    assert secret.inputs["metadata"] == mark.inputs["metadata"] == metadata
    for resource in (secret, mark):
        assert not {"data", "stringData"} & set(resource.inputs)
        assert secrets(resource.inputs) == []


def test_the_next_token_is_another_secrets_and_says_why() -> None:
    done = issued(wanted=Wanted(number=2, because=ASKED), renew=True)
    metadata = done["billing-1-secret"].inputs["metadata"]
    assert metadata["name"] == done.values["name"] == "istio-vm-billing-1.2"
    assert metadata["annotations"]["istio-vm-mesh/because"] == ASKED
    assert metadata["annotations"]["istio-vm-mesh/renew"] == "true"
    assert "--bound-object-name=istio-vm-billing-1.2 " in done["billing-1-token"].inputs["create"]
    assert done["billing-1-enrolled"].inputs["metadata"] == metadata


def test_a_token_whose_secret_is_not_there_yet_is_unknown() -> None:
    later = ObjectMeta(name="istio-vm-billing-1", uid=None)
    assert token_command(arguments(), later) is pulumi.output.UNKNOWN
