"""One VM: what is registered, in which order, and where its secrets are."""

import json
import subprocess
from typing import Any

import pulumi
import pytest
from recording import UNKNOWN, Run, public_text, run, secrets

from components.kubectl import ClusterAccess
from components.ssh import SshLogin
from components.virtual_machine import VirtualMachine
from components.vm_plan import VirtualMachineArgs, desired_host
from hosts.plan import Package, configure, confirm, drain, enrol, unconfigure
from registration.credentials import Wanted

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nnot to be seen\n-----END OPENSSH PRIVATE KEY-----\n"
GROUP = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "WorkloadGroup",
    "metadata": {"name": "billing", "namespace": "vm-apps"},
    "spec": {
        "metadata": {"labels": {"app": "billing"}},
        "template": {"serviceAccount": "billing", "network": "net1", "ports": {"http": 8080}},
    },
}
ROOT = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
STEPS = ["configure", "secret", "token", "entry", "enrol", "healthy", "confirm"]


def arguments(**changes: Any) -> VirtualMachineArgs:
    given: dict[str, Any] = {
        "access": ClusterAccess(kubeconfig=".lab/kubeconfig"),
        "address": "10.77.0.21",
        "ssh": SshLogin(host="10.77.0.21", port=22, user="root", host_key="ssh-ed25519 AAAA", private_key=KEY),
        "group": GROUP,
        "mesh_config": {"trustDomain": "cluster.local", "defaultConfig": {"meshId": "mesh1"}},
        "cluster": "cluster1",
        "packages": {"deb-amd64": Package(url="http://10.77.0.5/istio-sidecar.deb", sha256="0" * 64)},
        "istiod_host": "istiod.istio-system.svc",
        "istiod_address": "10.77.0.200",
        "istiod_port": 15012,
        "root_certificate": ROOT,
    }
    return VirtualMachineArgs(**{**given, **changes})


def vm_run(*, preview: bool = False, failing: tuple[str, ...] = (), **changes: Any) -> Run:
    def program() -> dict[str, Any]:
        leaf = pulumi.CustomResource("test:index:Leaf", "leaf", {})
        return dict(VirtualMachine("billing-1", arguments(after=[leaf], **changes)).steps)

    return run(program, preview=preview, failing=failing)


@pytest.fixture(scope="module")
def done() -> Run:
    return vm_run()


def test_it_registers_its_steps_under_itself(done: Run) -> None:
    steps = {f"billing-1-{step}" for step in (*STEPS, "returned", "enrolled")}
    assert done.names == {"leaf", "billing-1", *steps}
    assert done["billing-1"].type == "istiovm:index:VirtualMachine"
    assert {done[f"billing-1-{step}"].parent_name for step in STEPS} == {"billing-1"}


@pytest.mark.parametrize(
    ("step", "before"),
    [
        ("configure", {"leaf"}),
        ("secret", {"leaf"}),
        ("token", {"billing-1-configure", "billing-1-secret"}),
        ("entry", {"billing-1-configure"}),
        ("enrol", {"billing-1-token", "billing-1-entry"}),
        ("healthy", {"billing-1-enrol"}),
        ("confirm", {"billing-1-enrol", "billing-1-healthy"}),
        ("returned", {"billing-1-confirm", "billing-1-healthy"}),
        ("enrolled", {"billing-1-confirm"}),
    ],
)
def test_the_order_in_which_nothing_is_half_done(done: Run, step: str, before: set[str]) -> None:
    assert done[f"billing-1-{step}"].dependency_names == before


def test_the_host_gets_what_the_plan_says(done: Run) -> None:
    desired = desired_host("billing-1", arguments(), ROOT, "10.77.0.200", 15012)
    configured, enrolled, confirmed = (done[f"billing-1-{s}"].inputs for s in ("configure", "enrol", "confirm"))
    assert configure(desired).command in configured["create"]
    assert configured["stdin"].endswith(configure(desired).stdin)
    assert configured["delete"] == unconfigure(desired)
    assert (enrolled["create"], enrolled["delete"]) == (enrol(desired).command, drain(desired))
    assert confirmed["create"].endswith(f"\n{confirm(desired).command}")
    # Without a text of its own, `update` is `create`.
    assert all("update" not in inputs for inputs in (configured, enrolled, confirmed))


def test_a_vms_own_labels_reach_its_files() -> None:
    plain, labelled = (
        desired_host("billing-1", arguments(labels=labels), ROOT, "10.77.0.200", 15012) for labels in ({}, {"x": "y"})
    )
    assert '"x":"y"' in labelled.files.cluster_env.replace(" ", "")
    assert '"x":"y"' not in plain.files.cluster_env.replace(" ", "")


def test_connections_are_verified_and_give_up_soon(done: Run) -> None:
    for step in ("configure", "enrol", "confirm"):
        (connection,) = [s for s in secrets(done[f"billing-1-{step}"].inputs) if isinstance(s, dict)]
        assert connection["host"] == "10.77.0.21"
        assert connection["hostKey"] == "ssh-ed25519 AAAA"
        if step != "confirm":
            assert (connection["dialErrorLimit"] + 1) * connection["perDialTimeout"] < 20


def pauses(dials: int) -> float:
    """Seconds between so many dials: sdk/go/common/util/retry of Pulumi, 0.1 s that grow by half, to 5 s at most."""
    return sum(min(0.1 * 1.5**n, 5.0) for n in range(dials))


def test_a_vm_that_is_locked_out_is_dialled_until_it_has_taken_that_back() -> None:
    for seconds in (20, 120, 600):
        done = vm_run(confirm_within=seconds)
        (connection,) = [s for s in secrets(done["billing-1-confirm"].inputs) if isinstance(s, dict)]
        assert seconds + 25 < pauses(int(connection["dialErrorLimit"])) < seconds + 40


def test_nothing_logs_and_no_output_goes_into_an_environment(done: Run) -> None:
    for step in ("configure", "token", "entry", "enrol", "healthy", "confirm"):
        inputs = done[f"billing-1-{step}"].inputs
        assert (inputs["logging"], inputs["addPreviousOutputInEnv"]) == ("none", False)


def test_the_token_goes_to_the_vm_as_a_secret(done: Run) -> None:
    stdin = done["billing-1-enrol"].inputs["stdin"]
    assert secrets({"stdin": stdin}) == ["output of billing-1-token"]


def test_a_vm_with_another_token_is_confirmed_anew(done: Run) -> None:
    renewed = vm_run(wanted_token=Wanted(number=2))
    names = [run["billing-1-confirm"].inputs["stdin"].split("\n")[0] for run in (done, renewed)]
    assert names == ["istio-vm-billing-1", "istio-vm-billing-1.2"]


def test_another_root_of_trust_takes_another_token(done: Run) -> None:
    """It takes the certificate from the VM."""
    other = vm_run(root_certificate=ROOT.replace("AAAA", "BBBB"))
    first, second = (run["billing-1-token"].inputs["triggers"] for run in (done, other))
    assert first[0] == second[0] == "10.77.0.21"
    assert first != second


def test_no_secret_stands_in_an_input_that_is_not_one(done: Run) -> None:
    for step in STEPS:
        seen = public_text(done[f"billing-1-{step}"].inputs)
        assert "not to be seen" not in seen
        assert "output of billing-1-token" not in seen


def test_a_vm_that_is_told_to_start_again_is_waited_for_again(done: Run) -> None:
    again = done["billing-1-returned"].inputs
    assert (again["create"], again["stdin"]) == (":", "output of billing-1-healthy")
    assert again["update"] != done["billing-1-healthy"].inputs["update"]


def test_a_new_address_replaces_so_that_the_old_host_is_cleaned(done: Run) -> None:
    for step in ("configure", "token", "enrol"):
        assert done[f"billing-1-{step}"].inputs["triggers"][0] == "10.77.0.21"
    assert done["billing-1-entry"].inputs["triggers"] == ["vm-apps/billing-10.77.0.21-net1"]


def test_an_entry_is_gone_before_the_sidecar_registers_anew(done: Run) -> None:
    assert done["billing-1-entry"].delete_before_replace
    # A host is cleaned last: the new one runs by then.
    assert not done["billing-1-configure"].delete_before_replace


def test_before_the_mesh_is_there_a_preview_shows_the_steps_as_unknown() -> None:
    unknown = pulumi.output.UNKNOWN

    def program() -> dict[str, Any]:
        later = pulumi.Output.from_input("").apply(lambda _: unknown)
        vm = VirtualMachine("billing-1", arguments(root_certificate=later))
        return {"stdout": vm.steps["billing-1-confirm"]}

    done = run(program, preview=True)
    assert {f"billing-1-{step}" for step in STEPS} <= done.names
    assert done["billing-1-configure"].inputs["stdin"] == "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


def test_without_the_mesh_an_up_fails_on_the_host_and_changes_nothing() -> None:
    """An input that is left out would let a command that does nothing count as done."""
    unknown = pulumi.output.UNKNOWN

    def program() -> dict[str, Any]:
        failed = pulumi.Output.from_input("").apply(lambda _: unknown)
        return dict(VirtualMachine("billing-1", arguments(root_certificate=failed)).steps)

    done = run(program)
    for step in ("configure", "enrol", "confirm"):
        command = done[f"billing-1-{step}"].inputs["create"]
        ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
        assert ran.returncode == 1
        assert json.loads(ran.stderr)["code"] == "mesh-not-ready"
        assert json.loads(ran.stderr)["vm"] == "billing-1"


def test_a_token_that_failed_is_no_secret() -> None:
    """The CLI refuses an unknown secret, and with it the program and all of its outputs."""
    enrolled = vm_run(failing=("billing-1-token",))["billing-1-enrol"]
    assert enrolled.inputs["stdin"] == "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


def test_a_failed_step_leaves_what_comes_after_it_without_result() -> None:
    values = vm_run(failing=("billing-1-token",)).values
    assert values["billing-1-configure"] == "output of billing-1-configure"
    assert values["billing-1-entry"] == "output of billing-1-entry"
    assert {values[f"billing-1-{step}"] for step in ("token", "enrol", "healthy", "confirm")} == {UNKNOWN}


def test_a_vm_says_with_which_configuration_it_registers() -> None:
    one, same, labelled, upgraded, again = (
        desired_host("billing-1", arguments(**changes), ROOT, "10.77.0.200", 15012, went_back)
        for changes, went_back in (
            ({}, ""),
            ({"packages": {"deb-amd64": Package(url="http://another-mirror/x.deb", sha256="0" * 64)}}, "other.3"),
            ({"labels": {"x": "y"}}, ""),
            ({"packages": {"deb-amd64": Package(url="http://10.77.0.5/istio-sidecar.deb", sha256="1" * 64)}}, ""),
            ({}, desired_host("billing-1", arguments(), ROOT, "10.77.0.200", 15012).configuration + ".2"),
        )
    )
    assert f'"istio-vm-mesh/configuration":"{one.configuration}"' in one.files.cluster_env
    assert same.configuration == one.configuration
    assert again.configuration == f"{one.configuration}.2"
    assert len({one.configuration, labelled.configuration, upgraded.configuration, again.configuration}) == 4


def test_why_a_vm_is_not_back_is_told_to_it() -> None:
    """`healthy` prints it, and `confirm` takes the VM back to what it was."""
    assert vm_run()["billing-1-confirm"].inputs["stdin"].split("\n", 1)[1] == "output of billing-1-healthy"


def test_a_vm_that_leaves_is_out_of_the_mesh_before_its_sidecar_stops(done: Run) -> None:
    delete = done["billing-1-healthy"].inputs["delete"]
    assert "delete workloadentries.networking.istio.io billing-10.77.0.21-net1" in delete
    assert "&& sleep 2" in delete
    assert "billing-1-enrol" in done["billing-1-healthy"].dependency_names, "deleted before what stops the sidecar"


def test_only_a_vm_that_may_leave_unreachable_has_a_departure(done: Run) -> None:
    assert not any(done[f"billing-1-{step}"].retain_on_delete for step in STEPS)
    leaving = vm_run(remove_unreachable=True)
    assert leaving.names - done.names == {"billing-1-departure"}
    departure = leaving["billing-1-departure"]
    assert departure.inputs["create"] == ":"
    assert "update" not in departure.inputs
    assert departure.inputs["triggers"] == ["10.77.0.21"]
    # The host's own steps would fail on a dead VM: changing and keeping them needs no connection.
    assert {f"billing-1-{step}" for step in ("configure", "enrol", "confirm")} == {
        name for name in leaving.names if leaving[name].retain_on_delete
    }
    # A dead VM fails these, and must not keep the departure from being told of.
    assert not departure.dependency_names & {"billing-1-configure", "billing-1-enrol", "billing-1-confirm"}
    assert "billing-1-secret" in departure.dependency_names
    assert "not to be seen" not in public_text(departure.inputs)
