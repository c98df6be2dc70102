"""What VMs may register as: the guard as the API server judges it, and VMs that say something else on the lab."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from stack import Kubectl, Stack, changes, eventually

from components.registration_guard import (
    CONFIRMED,
    DECLARED,
    RegistrationGuardArgs,
    binding_spec,
    guard_data,
    guard_name,
    policy_spec,
)
from hosts.plan import HELPER, STATE
from hosts.registered import RegisteredEntry
from lab.runtime import Lab
from lab.spec import VmSpec

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

VM, ADDRESS = "billing-2", "10.77.0.22"
LOG = "/var/log/istio/istio.log"
ENVIRONMENT = "/var/lib/istio/envoy/cluster.env"
SAID = f"the VM of workload billing at {ADDRESS} registers with "


def on_vm(lab: Lab, vm: str, script: str, timeout: float = 60) -> str:
    done = lab.vm_exec(vm, ["sh", "-c", script], timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def entry_of(kubectl: Kubectl, address: str = ADDRESS) -> dict[str, Any] | None:
    items = json.loads(kubectl("get", "workloadentries", "-n", "vm-apps", "-o", "json"))["items"]
    return next((item for item in items if item["spec"]["address"] == address), None)


def spec_of(kubectl: Kubectl, address: str = ADDRESS) -> dict[str, Any]:
    found = entry_of(kubectl, address)
    assert found is not None
    spec: dict[str, Any] = found["spec"]
    return spec


def healthy(kubectl: Kubectl) -> bool:
    conditions = (entry_of(kubectl) or {}).get("status", {}).get("conditions", [])
    return any((each["type"], each["status"]) == ("Healthy", "True") for each in conditions)


def answer(kubectl: Kubectl, *args: str, stdin: str | None = None) -> str:
    """What the API server says of a change that it does not make; empty where it admits it."""
    done = subprocess.run(
        [*kubectl.argv, *args, "--dry-run=server"],
        input=stdin,
        env=dict(kubectl.environment),
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.stderr if done.returncode else ""


def admitted(kubectl: Kubectl, spec: dict[str, Any], group: str | None = "billing", namespace: str = "vm-apps") -> str:
    """The same of a new WorkloadEntry."""
    metadata: dict[str, Any] = {"name": "guard-test", "namespace": namespace}
    if group:
        metadata["annotations"] = {"istio.io/autoRegistrationGroup": group}
    manifest = {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry", "metadata": metadata, "spec": spec}
    return answer(kubectl, "create", "-f", "-", stdin=json.dumps(manifest))


def without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: without_none(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if value is not None
    }


def test_the_guard_admits_what_is_declared_and_what_is_not_its_own(joined: Stack, kubectl: Kubectl) -> None:
    spec = spec_of(kubectl)
    assert admitted(kubectl, spec) == ""
    assert admitted(kubectl, {**spec, "address": "10.77.0.21"}) == "", "both VMs are declared alike"
    marked = {**spec["labels"], "istio-vm-mesh/configuration": "0123.4"}
    assert admitted(kubectl, {**spec, "labels": marked}) == "", "it only says which files the VM has"
    elsewhere = {**spec, "address": "10.77.0.70"}
    assert "no VM of workload billing has the address 10.77.0.70" in admitted(kubectl, elsewhere)
    nowhere = {key: value for key, value in spec.items() if key != "address"}
    assert "no VM of workload billing has the address" in admitted(kubectl, nowhere)
    assert admitted(kubectl, elsewhere, "ledger") == "", "another group"
    assert admitted(kubectl, elsewhere, None) == "", "a static entry"
    assert admitted(kubectl, elsewhere, "billing", "default") == "", "another namespace's group"


OTHERWISE: dict[str, tuple[dict[str, Any], str]] = {
    "another label": (
        {"labels": {"app": "payments"}},
        "label app=payments, the stack declares it with label app=billing",
    ),
    "one label more": (
        {"labels": {"team": "x"}},
        "label team=x, the stack declares it with nothing else",
    ),
    "one label less": (
        {"labels": {"version": None}},
        "nothing else, the stack declares it with label version=v1",
    ),
    "no mutual TLS": (
        {"labels": {"security.istio.io/tlsMode": "disabled"}},
        "label security.istio.io/tlsMode=disabled, the stack declares it with nothing else",
    ),
    "another network": ({"network": "net2"}, "network=net2, the stack declares it with network=net1"),
    "another account": (
        {"serviceAccount": "other"},
        "serviceAccount=other, the stack declares it with serviceAccount=billing",
    ),
    "no account": (
        {"serviceAccount": None},
        "serviceAccount=, the stack declares it with serviceAccount=billing",
    ),
    "a locality": ({"locality": "eu/a"}, "locality=eu/a, the stack declares it with locality="),
}


@pytest.mark.parametrize("case", list(OTHERWISE))
def test_the_guard_refuses_what_a_declared_vm_is_not(joined: Stack, kubectl: Kubectl, case: str) -> None:
    changed, told = OTHERWISE[case]
    spec = spec_of(kubectl)
    otherwise = {**spec, **changed, "labels": {**spec["labels"], **changed.get("labels", {})}}
    assert f"{SAID}{told}\n" in admitted(kubectl, without_none(otherwise))

    # And of the entry that is there.
    found = entry_of(kubectl)
    assert found is not None
    patch = ("patch", "workloadentry", "-n", "vm-apps", found["metadata"]["name"], "--type=merge", "-p")
    assert f"{SAID}{told}\n" in answer(kubectl, *patch, json.dumps({"spec": changed}))
    assert answer(kubectl, *patch, json.dumps({"metadata": {"annotations": {"istio.io/connectedAt": "now"}}})) == ""


def test_the_guard_lets_istiod_mark_an_entry_that_is_on_its_way_out(joined: Stack, kubectl: Kubectl) -> None:
    """Its address may not be declared any more; it stays what it is."""
    spec = {"address": "10.77.0.70", "serviceAccount": "billing"}
    static = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {"name": "guard-leaving", "namespace": "vm-apps"},
        "spec": spec,
    }
    place = ("workloadentry", "-n", "vm-apps", "guard-leaving")
    kubectl("apply", "-f", "-", stdin=json.dumps(static))
    try:
        with pytest.raises(AssertionError, match="no VM of workload billing"):
            kubectl("annotate", *place, "istio.io/autoRegistrationGroup=billing")
        kubectl("annotate", *place, "istio.io/disconnectedAt=now")
    finally:
        kubectl("delete", *place)


def crowd(vms: int, version: str) -> RegistrationGuardArgs:
    """A workload of VMs each with labels of its own."""
    return RegistrationGuardArgs(
        namespace="default",
        group="crowd",
        entries={
            f"10.78.{number // 250}.{number % 250}": RegisteredEntry(
                labels={"version": version, **{f"example.com/{key}-of-vm": f"{key}-{number}" for key in "abcdef"}},
                optional_labels={"networking.istio.io/tunnel": "http"},
                network="net1",
                service_account="crowd",
                locality=None,
            )
            for number in range(vms)
        },
    )


@pytest.mark.parametrize("vms", [200])
def test_the_guard_of_many_vms_is_taken_and_judges(joined: Stack, kubectl: Kubectl, vms: int) -> None:
    """Nothing is shared: neither between VMs, nor between what is declared and what was confirmed."""
    now, before = crowd(vms, "v2"), crowd(vms, "v1")
    name = {"name": guard_name(now)}
    policy = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": name}
    objects = [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadGroup",
            "metadata": {
                **name,
                "namespace": "istio-system",
                "annotations": guard_data(now, DECLARED) | guard_data(before, CONFIRMED),
            },
            "spec": {"template": {}},
        },
        {**policy, "spec": policy_spec(now)},
        {**policy, "kind": "ValidatingAdmissionPolicyBinding", "spec": binding_spec(now)},
    ]
    everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})

    def judged(guard: RegistrationGuardArgs, address: str, **labels: str) -> str:
        """What is said of the last VM's entry, at an address."""
        last = list(guard.entries.values())[-1]
        spec = {"address": address, "labels": {**last.labels, **labels}, "network": "net1"}
        return admitted(kubectl, {**spec, "serviceAccount": "crowd", "locality": "eu/a"}, "crowd", "default")

    kubectl("apply", "--server-side", "-f", "-", stdin=everything)
    try:
        own, other = list(now.entries)[-1], next(iter(now.entries))
        eventually(lambda: "has the address 10.79.0.1" in judged(now, "10.79.0.1"), seconds=10, what="it is in force")
        assert judged(now, own) == judged(before, own) == ""
        assert judged(now, own, **{"networking.istio.io/tunnel": "http"}) == "", "istiod adds it or not"
        assert "tunnel=other, the stack" in judged(now, own, **{"networking.istio.io/tunnel": "other"})
        assert "label example.com/a-of-vm=a-0" in judged(now, other)
    finally:
        kubectl("delete", "-f", "-", stdin=everything)


@pytest.fixture
def tampered(joined: Stack, lab: Lab, kubectl: Kubectl) -> Iterator[None]:
    """A declared VM out of the mesh, whose root may change its files; afterwards it is as it was, and back."""
    on_vm(lab, VM, f"cp -p {ENVIRONMENT} /root/cluster.env")
    on_vm(lab, VM, f"systemctl stop istio; : >{LOG}")
    eventually(lambda: entry_of(kubectl) is None, seconds=60, what="istiod forgets the VM")
    yield
    on_vm(lab, VM, f"systemctl stop istio; cp -p /root/cluster.env {ENVIRONMENT}; systemctl start istio")
    eventually(lambda: healthy(kubectl), seconds=60, what="the VM is back as it was declared")


def labelled(text: str) -> str:
    """Change the labels by which the VM registers."""
    return f"s/^\\(ISTIO_METAJSON_LABELS=.{{\\)/\\1{text}/"


TAMPERINGS = {
    "labels": ('s/"app":"billing"/"app":"payments"/', SAID + OTHERWISE["another label"][1]),
    "tls": (labelled('"security.istio.io\\/tlsMode":"disabled",'), SAID + OTHERWISE["no mutual TLS"][1]),
    "network": ("s/^ISTIO_META_NETWORK=.*/ISTIO_META_NETWORK=net2/", SAID + OTHERWISE["another network"][1]),
    "locality": (labelled('"istio-locality":"eu.a",'), SAID + OTHERWISE["a locality"][1]),
    # istiod itself holds this one against the certificate.
    "account": ("s/^SERVICE_ACCOUNT=.*/SERVICE_ACCOUNT=default/", "no identities"),
}


@pytest.mark.parametrize("what", list(TAMPERINGS))
def test_a_vm_that_its_own_root_changes_does_not_register(
    tampered: None, lab: Lab, kubectl: Kubectl, what: str
) -> None:
    edit, told = TAMPERINGS[what]
    before = on_vm(lab, VM, f"cat {ENVIRONMENT}")
    on_vm(lab, VM, f"sed -i '{edit}' {ENVIRONMENT}")
    assert on_vm(lab, VM, f"cat {ENVIRONMENT}") != before, "nothing was changed, so this shows nothing"
    on_vm(lab, VM, "systemctl start istio")
    said = f"grep -h '{told}' /var/log/istio/*.log || true"
    eventually(lambda: on_vm(lab, VM, said), seconds=60, what="the registration is refused")
    assert entry_of(kubectl) is None


def test_a_declared_change_is_admitted_and_what_was_before_is_not_once_all_are_confirmed(
    stack: Stack, kubectl: Kubectl
) -> None:
    before = spec_of(kubectl)
    stack.billing["vms"][VM]["labels"] = {"version": "v2", "istio-locality": "eu.a"}
    stack.up()
    after = spec_of(kubectl)
    assert (after["labels"]["version"], after["locality"]) == ("v2", "eu/a")
    assert stack.states()[VM] == "healthy"
    assert changes(stack.preview()) == {}
    assert admitted(kubectl, after) == ""
    assert "label version=v1" in admitted(kubectl, before)
    assert "label version=v2" in admitted(kubectl, {**after, "address": "10.77.0.21"}), "another VM's labels"


def test_vms_that_a_failed_change_has_not_reached_still_register_as_before(
    stack: Stack, lab: Lab, kubectl: Kubectl
) -> None:
    before = spec_of(kubectl)
    stack.billing["labels"] |= {"version": "v2", "team": "pay"}
    # The first VM of the wave cannot be changed, so the second is left as it is.
    on_vm(lab, "billing-1", "systemctl stop ssh")
    try:
        failed = stack.run("up")
        assert failed.returncode != 0, failed.stdout
        assert spec_of(kubectl) == before
        new = {"version": "v2", "service.istio.io/canonical-revision": "v2", "team": "pay"}
        after = {**before, "labels": {**before["labels"], **new}}
        assert admitted(kubectl, before) == admitted(kubectl, after) == ""
        assert "label version=v3" in admitted(kubectl, {**after, "labels": {**after["labels"], "version": "v3"}})

        # It loses its entry, and comes back as it is, but for what is new in its group.
        on_vm(lab, VM, "systemctl stop istio")
        eventually(lambda: entry_of(kubectl) is None, seconds=60, what="istiod forgets the VM")
        on_vm(lab, VM, "systemctl start istio")
        eventually(lambda: healthy(kubectl), seconds=60, what="the VM is back")
        assert spec_of(kubectl) == {**before, "labels": {**before["labels"], "team": "pay"}}
    finally:
        on_vm(lab, "billing-1", "systemctl start ssh")
    stack.up()
    assert "label version=v1" in admitted(kubectl, before)
    assert admitted(kubectl, after) == ""


def test_all_vms_of_a_workload_leave_and_come_again(stack: Stack) -> None:
    vms = dict(stack.billing["vms"])
    stack.billing["vms"] = {}
    stack.up()
    assert changes(stack.preview()) == {}
    stack.billing["vms"] = vms
    stack.up()
    assert stack.states() == dict.fromkeys(vms, "healthy")
    assert changes(stack.preview()) == {}


def test_vms_reconnect_after_istiod_has_restarted(joined: Stack, kubectl: Kubectl) -> None:
    def connected() -> str:
        annotations = (entry_of(kubectl) or {"metadata": {}})["metadata"].get("annotations", {})
        return f"{annotations.get('istio.io/workloadController')} {annotations.get('istio.io/connectedAt')}"

    before, uid = connected(), (entry_of(kubectl) or {})["metadata"]["uid"]
    kubectl("rollout", "restart", "-n", "istio-system", "deployment/istiod")
    kubectl("rollout", "status", "-n", "istio-system", "deployment/istiod", "--timeout=120s")
    eventually(
        lambda: connected().split()[0] != before.split()[0] and "None" not in connected(),
        seconds=90,
        what="another istiod marks the entry",
    )
    eventually(lambda: healthy(kubectl), seconds=60, what="the VM is healthy")
    assert (entry_of(kubectl) or {})["metadata"]["uid"] == uid, "the entry is the one that was there"


@pytest.fixture
def thief(lab: Lab) -> Iterator[VmSpec]:
    vm = VmSpec(name="thief", address="10.77.0.70")
    lab.add_vm(vm)
    yield vm
    lab.remove_vm(vm.name)


def test_a_stolen_token_registers_no_other_address(joined: Stack, lab: Lab, kubectl: Kubectl, thief: VmSpec) -> None:
    """The thief sets itself up as billing-1 is, with a token of its account, under its own address."""
    program = on_vm(lab, "billing-1", f"cat {HELPER}")
    desired = on_vm(lab, "billing-1", f"cat {STATE}/desired").replace("10.77.0.21", thief.address)
    digest = desired.partition("\ndigest: ")[2].split()[0]
    names = kubectl("get", "secrets", "-n", "vm-apps", "-l", "istio-vm-mesh/vm=billing-1", "-o", "name")
    secret = names.strip().removeprefix("secret/")
    bound = ("--bound-object-kind=Secret", f"--bound-object-name={secret}")
    token = kubectl("create", "token", "billing", "-n", "vm-apps", "--audience=istio-ca", "--duration=10m", *bound)
    lab.vm_exec(thief.name, ["sh", "-c", "cat >/root/host"], stdin=program)
    enrol = [["sh", HELPER, "take-token", digest], ["sh", HELPER, "enrol", digest]]
    for argv, stdin in zip([["sh", "/root/host", "configure"], *enrol], [desired, token, ""], strict=True):
        done = lab.vm_exec(thief.name, argv, stdin=stdin, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
    # It has a certificate: the token is good. But istiod takes it in at no address of its own.
    certificate = "cat /etc/certs/cert-chain.pem 2>/dev/null || true"
    eventually(lambda: on_vm(lab, thief.name, certificate), seconds=30, what="the thief gets a certificate")
    said = "grep -h 'no VM of workload billing has the address 10.77.0.70' /var/log/istio/*.log || true"
    eventually(lambda: on_vm(lab, thief.name, said), seconds=30, what="istiod refuses the registration")
    assert not entry_of(kubectl, thief.address)
    assert entry_of(kubectl, "10.77.0.21"), "the rightful VM stays"
