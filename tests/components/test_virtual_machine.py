"""One VM: what is registered, in which order, and where its secrets are."""

import json
import subprocess
from typing import Any

import pulumi
import pytest
from recording import UNKNOWN, Run, public_text, run, secrets

from cluster.client import Client
from components.hooks import Hooks
from components.kubectl import ClusterAccess
from components.virtual_machine import VirtualMachine
from components.vm_plan import VirtualMachineArgs, desired_host
from hosts.login import SshLogin, SshTarget
from hosts.plan import Package, configure, confirm, enrol, take_down
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
STEPS = ["configure", "membership", "enrol", "confirm"]
ON_HOST = ["configure", "enrol", "confirm"]


class NoCluster(Client):
    """Notes what it is asked to write, and answers nothing."""

    def __init__(self) -> None:
        super().__init__(None, None)
        self.patched: list[str] = []

    def items(self, path: str, selector: str = "") -> list[dict[str, Any]]:
        return []

    def patch(self, path: str, body: Any) -> dict[str, Any]:
        self.patched.append(f"{path} {json.dumps(body)}")
        return {}


def arguments(**changes: Any) -> VirtualMachineArgs:
    login = SshLogin(host="10.77.0.21", port=22, user="root", host_key="ssh-ed25519 AAAA", private_key=KEY)
    given: dict[str, Any] = {
        "access": ClusterAccess(kubeconfig=".lab/kubeconfig"),
        "client": NoCluster(),
        "hooks": Hooks(),
        "address": "10.77.0.21",
        "ssh": SshTarget(vm=login),
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


def desired(went_back: str = "", **changes: Any) -> Any:
    return desired_host("billing-1", arguments(**changes), ROOT, "10.77.0.200", 15012, went_back=went_back)


def vm_run(*, preview: bool = False, failing: tuple[str, ...] = (), **changes: Any) -> Run:
    def program() -> dict[str, Any]:
        leaf = pulumi.CustomResource("test:index:Leaf", "leaf", {})
        return dict(VirtualMachine("billing-1", arguments(after=[leaf], **changes)).steps)

    return run(program, preview=preview, failing=failing)


@pytest.fixture(scope="module")
def done() -> Run:
    return vm_run()


def test_it_registers_its_steps_under_itself(done: Run) -> None:
    assert done.names == {"leaf", "billing-1", *(f"billing-1-{step}" for step in STEPS)}
    assert done["billing-1"].type == "istiovm:index:VirtualMachine"
    assert {done[f"billing-1-{step}"].parent_name for step in STEPS} == {"billing-1"}


@pytest.mark.parametrize(
    ("step", "before"),
    [
        ("configure", {"leaf"}),
        ("membership", {"billing-1-configure"}),
        ("enrol", {"billing-1-configure", "billing-1-membership"}),
        ("confirm", {"billing-1-enrol"}),
    ],
)
def test_the_order_in_which_nothing_is_half_done(done: Run, step: str, before: set[str]) -> None:
    assert done[f"billing-1-{step}"].dependency_names == before


def test_the_engine_keeps_little_beside_the_inputs(done: Run) -> None:
    assert sum(done[f"billing-1-{step}"].size for step in STEPS) < 7000


def test_the_program_acts_before_each_step_on_the_host(done: Run) -> None:
    assert {step: done[f"billing-1-{step}"].hooked for step in STEPS} == {
        "configure": {"before_create", "before_update"},
        "membership": {"before_create", "before_update"},
        "enrol": {"before_create", "before_update"},
        # A first join is confirmed at once.
        "confirm": {"before_update"},
    }


def test_the_host_gets_what_the_plan_says(done: Run) -> None:
    configured, enrolled, confirmed = (done[f"billing-1-{s}"].inputs for s in ON_HOST)
    assert configured["create"] == configure(desired()).command
    assert configured["stdin"] == configure(desired()).stdin
    assert enrolled["create"] == enrol(desired()).command
    assert confirmed["create"] == f"{confirm(desired()).command} {desired().configuration}"
    # Without a text of its own, `update` is `create`; deleting takes no connection.
    assert not [inputs for inputs in (configured, enrolled, confirmed) if {"update", "delete"} & set(inputs)]


def test_a_vms_own_labels_reach_its_files() -> None:
    plain, labelled = (desired(labels=labels) for labels in ({}, {"x": "y"}))
    assert '"x":"y"' in labelled.files.cluster_env.replace(" ", "")
    assert '"x":"y"' not in plain.files.cluster_env.replace(" ", "")


def connection_of(done: Run, step: str) -> dict[str, Any]:
    (connection,) = [s for s in secrets(done[f"billing-1-{step}"].inputs) if isinstance(s, dict)]
    return connection


def test_connections_are_verified_and_give_up_soon(done: Run) -> None:
    for step in ON_HOST:
        connection = connection_of(done, step)
        assert connection["host"] == "10.77.0.21"
        assert connection["hostKey"] == "ssh-ed25519 AAAA"
        if step != "confirm":
            assert (connection["dialErrorLimit"] + 1) * connection["perDialTimeout"] < 20


def pauses(dials: int) -> float:
    """Seconds between so many dials: sdk/go/common/util/retry of Pulumi, 0.1 s that grow by half, to 5 s at most."""
    return sum(min(0.1 * 1.5**n, 5.0) for n in range(dials))


def test_a_vm_that_is_locked_out_is_dialled_until_it_has_taken_that_back() -> None:
    for seconds in (20, 120, 600):
        dials = int(connection_of(vm_run(confirm_within=seconds), "confirm")["dialErrorLimit"])
        assert seconds + 25 < pauses(dials) < seconds + 40


def test_nothing_logs_and_no_output_goes_into_an_environment(done: Run) -> None:
    assert done["billing-1-membership"].inputs["logging"] == "stderr"
    for step in ON_HOST:
        inputs = done[f"billing-1-{step}"].inputs
        assert (inputs["logging"], inputs["addPreviousOutputInEnv"]) == ("none", False)


def test_a_vm_with_another_token_enrols_and_is_confirmed_anew(done: Run) -> None:
    renewed = vm_run(wanted_token=Wanted(number=2))
    for step in ("enrol", "confirm"):
        names = [run[f"billing-1-{step}"].inputs["stdin"] for run in (done, renewed)]
        assert names == ["istio-vm-billing-1", "istio-vm-billing-1.2"]


def test_where_no_secret_is_seen_what_the_stack_has_stays() -> None:
    """A new VM has nothing yet; a Secret that was deleted by hand, or that nobody may read, had some number."""
    unseen = vm_run(wanted_token=Wanted(unseen=True))
    assert {step: unseen[f"billing-1-{step}"].ignored for step in STEPS if unseen[f"billing-1-{step}"].ignored} == {
        "membership": ("environment.SECRET", "environment.BECAUSE"),
        "enrol": ("stdin",),
        "confirm": ("stdin",),
    }


def test_no_secret_stands_in_an_input_that_is_not_one(done: Run) -> None:
    for step in STEPS:
        assert "not to be seen" not in public_text(done[f"billing-1-{step}"].inputs)


@pytest.mark.parametrize(
    ("changes", "marked"),
    [
        ({}, True),
        ({"wanted_token": Wanted(used="0" * 64)}, True),
        ({"wanted_token": Wanted(used="709e80c88487a2411e1ee4dfb9f22a861492d20c4765150c0c794abd70f8147c")}, False),
        ({"preview": True}, False),
        ({"failing": ("billing-1-enrol",)}, False),
    ],
)
def test_a_token_is_marked_as_used_once_its_vm_is_confirmed(changes: Any, marked: bool) -> None:
    client = NoCluster()
    vm_run(client=client, **changes)
    digest = "709e80c88487a2411e1ee4dfb9f22a861492d20c4765150c0c794abd70f8147c"
    said = f'{{"metadata": {{"annotations": {{"istio-vm-mesh/used": "{digest}"}}}}}}'
    path = "/api/v1/namespaces/vm-apps/secrets/istio-vm-billing-1"
    assert client.patched == ([f"{path} {said}"] if marked else [])


def test_a_new_address_replaces_so_that_the_old_host_is_cleaned(done: Run) -> None:
    for step in STEPS:
        assert done[f"billing-1-{step}"].inputs["triggers"] == ["10.77.0.21"]
        # A host is cleaned last: the new one runs by then.
        assert not done[f"billing-1-{step}"].delete_before_replace


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
    for step in ON_HOST:
        command = done[f"billing-1-{step}"].inputs["create"]
        ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
        assert ran.returncode == 1
        assert json.loads(ran.stderr)["code"] == "mesh-not-ready"
        assert json.loads(ran.stderr)["vm"] == "billing-1"


def test_a_failed_step_leaves_what_comes_after_it_without_result() -> None:
    values = vm_run(failing=("billing-1-membership",)).values
    assert values["billing-1-configure"] == "output of billing-1-configure"
    assert {values[f"billing-1-{step}"] for step in ("membership", "enrol", "confirm")} == {UNKNOWN}


def test_a_vm_says_with_which_configuration_it_registers() -> None:
    one = desired()
    mirrored = {"deb-amd64": Package(url="http://another-mirror/x.deb", sha256="0" * 64)}
    newer = {"deb-amd64": Package(url="http://10.77.0.5/istio-sidecar.deb", sha256="1" * 64)}
    same, labelled, upgraded = (
        desired("other.3", packages=mirrored),
        desired(labels={"x": "y"}),
        desired(packages=newer),
    )
    again = desired(f"{one.configuration}.2")
    assert f'"istio-vm-mesh/configuration":"{one.configuration}"' in one.files.cluster_env
    assert same.configuration == one.configuration
    assert again.configuration == f"{one.configuration}.2"
    assert len({one.configuration, labelled.configuration, upgraded.configuration, again.configuration}) == 4


def test_what_takes_a_vm_away_is_known_once_there_is_something_on_it(done: Run) -> None:
    """By private keys that are none of anybody's business, and by what a plan is to show."""
    membership = done["billing-1-membership"].inputs
    assert (membership["create"], membership["delete"]) == (":", "sh components/departure.sh")
    assert membership["stdin"] == (
        "vm: billing-1\nnamespace: vm-apps\nentry: billing-10.77.0.21-net1\nlogin: root 10.77.0.21 22\n"
        f"host-key: ssh-ed25519 AAAA\nkubeconfig: .lab/kubeconfig\ntake-down: {take_down('10.77.0.21', 'billing-1')}\n"
    )
    assert done["billing-1-membership"].request.customTimeouts.delete == "15m"
    assert secrets(membership) == [KEY]
    assert {key: value for key, value in membership["environment"].items() if key != "ISTIO_VM_MESH_KEY"} == {
        "ENTRY": "vm-apps/billing-10.77.0.21-net1",
        "SECRET": "vm-apps/istio-vm-billing-1",
        "IDENTITY": "",
    }


def test_a_vm_may_leave_unreachable_although_nothing_can_be_done_on_it() -> None:
    leaving = vm_run(remove_unreachable=True)
    assert "unreachable: leaves\n" in leaving["billing-1-membership"].inputs["stdin"]
    # A dead VM fails what comes before, and must not keep this from being told.
    assert leaving["billing-1-membership"].dependency_names == {"leaf"}
