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
STEPS = ["configure", "entry", "enrol", "departure", "confirm"]
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
        ("entry", {"billing-1-configure"}),
        ("enrol", {"billing-1-configure", "billing-1-entry"}),
        ("departure", {"billing-1-enrol"}),
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
        "entry": {"before_create", "before_update"},
        "enrol": {"before_create", "before_update"},
        "departure": set(),
        # A first join is confirmed at once.
        "confirm": {"before_update"},
    }


def test_the_host_gets_what_the_plan_says(done: Run) -> None:
    configured, enrolled, confirmed = (done[f"billing-1-{s}"].inputs for s in ON_HOST)
    assert configured["create"] == configure(desired()).command
    assert configured["stdin"] == configure(desired()).stdin
    assert configured["delete"] == unconfigure(desired())
    assert (enrolled["create"], enrolled["delete"]) == (enrol(desired()).command, drain(desired()))
    assert confirmed["create"] == f"{confirm(desired()).command} {desired().configuration}"
    # Without a text of its own, `update` is `create`.
    assert all("update" not in inputs for inputs in (configured, enrolled, confirmed))


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
    assert done["billing-1-entry"].inputs["logging"] == "none"
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
        "entry": ("environment.SECRET", "environment.BECAUSE"),
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
    for step in (*ON_HOST, "departure"):
        assert done[f"billing-1-{step}"].inputs["triggers"] == ["10.77.0.21"]
    # Entry and Secret are taken over: the hook before it is changed deletes what was before.
    assert "triggers" not in done["billing-1-entry"].inputs
    assert done["billing-1-entry"].inputs["environment"]["ENTRY"] == "vm-apps/billing-10.77.0.21-net1"


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
    values = vm_run(failing=("billing-1-entry",)).values
    assert values["billing-1-configure"] == "output of billing-1-configure"
    assert {values[f"billing-1-{step}"] for step in ("entry", "enrol", "confirm")} == {UNKNOWN}


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


def test_a_vm_that_leaves_is_out_of_the_mesh_before_its_sidecar_stops(done: Run) -> None:
    delete = done["billing-1-departure"].inputs["delete"]
    assert "e=workloadentries.networking.istio.io/billing-10.77.0.21-net1\n" in delete
    assert "&& sleep 2" in delete
    assert "billing-1-enrol" in done["billing-1-departure"].dependency_names, "deleted before what stops the sidecar"
    # It may register again while it drains.
    assert "k delete $e " in done["billing-1-entry"].inputs["delete"]
    assert done["billing-1-entry"].inputs["delete"].endswith("\nk delete secrets -l istio-vm-mesh/vm=billing-1")
    assert "billing-1-entry" in done["billing-1-enrol"].dependency_names, "deleted after what stops the sidecar"


def test_a_vm_that_may_leave_unreachable_is_taken_down_by_its_departure(done: Run) -> None:
    assert not any(done[f"billing-1-{step}"].retain_on_delete for step in STEPS)
    leaving = vm_run(remove_unreachable=True)
    assert leaving.names == done.names
    departure = leaving["billing-1-departure"]
    assert (departure.inputs["create"], departure.inputs["triggers"]) == (":", ["10.77.0.21"])
    assert "update" not in departure.inputs
    # The host's own steps would fail on a dead VM: changing and keeping them needs no connection.
    retained = {name for name in leaving.names if leaving[name].retain_on_delete}
    assert retained == {f"billing-1-{step}" for step in ON_HOST}
    # A dead VM fails these, and must not keep the departure from being told of. One that refuses keeps entry and token.
    assert departure.dependency_names == {"leaf", "billing-1-entry"}
    assert leaving["billing-1-entry"].dependency_names == {"leaf"}
    assert "not to be seen" not in public_text(departure.inputs)
