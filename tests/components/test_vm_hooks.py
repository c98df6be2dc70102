"""What the program does before a VM's steps, against an ssh server in this process and a cluster of a few objects."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh
import pulumi
import pytest
from fake_cluster import FakeCluster
from waiting import wait_for

from components import entry
from components.hooks import Hooks, Refused
from components.kubectl import ClusterAccess
from components.vm_hooks import VmHooks, changes_configuration, confirm_command
from components.vm_plan import VirtualMachineArgs, credential_args, desired_host, entry_args
from hosts import plan
from hosts.login import SshLogin, SshTarget
from hosts.plan import DesiredHost, Package
from registration.credentials import Wanted

HOST_KEY, USER_KEY = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
GROUP = {
    "metadata": {"name": "billing", "namespace": "vm-apps"},
    "spec": {"template": {"serviceAccount": "billing", "network": "net1"}, "probe": {"httpGet": {"port": 8080}}},
}
ROOT = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
ROOT_DIGEST = "709e80c88487a2411e1ee4dfb9f22a861492d20c4765150c0c794abd70f8147c"
API = "/apis/networking.istio.io/v1/namespaces/vm-apps"
ENTRY = f"{API}/workloadentries/billing-10.77.0.21-net1"
SECRET = "/api/v1/namespaces/vm-apps/secrets/istio-vm-billing-1"

Says = Callable[[str, str], tuple[int, str, str]]
"""A VM's answer to a command and its standard input: exit status, standard output and error."""


class Place:
    """One VM of a stack, what it does and what the cluster says."""

    def __init__(self, packages: dict[str, Package] | None = None) -> None:
        self.cluster = FakeCluster({})
        self.said: list[tuple[str, str]] = []
        self.says: Says = lambda command, stdin: (0, "", "")
        self.packages = packages or {"deb-amd64": Package(url="http://10.77.0.5/x.deb", sha256="0" * 64)}
        self.desired: DesiredHost
        self.token = Wanted()

    def do(self, name: str, *args: Any) -> None:
        """Run a hook; what a function makes is made while it runs, as Outputs have to be."""
        wait_for(self._do(name, *args))

    async def _do(self, name: str, *args: Any) -> None:
        async def answer(process: asyncssh.SSHServerProcess[str]) -> None:
            stdin = await process.stdin.read()
            self.said.append((process.command or "", stdin))
            status, output, errors = self.says(process.command or "", stdin)
            process.stdout.write(output)
            process.stderr.write(errors)
            process.exit(status)

        users = asyncssh.import_authorized_keys(USER_KEY.export_public_key().decode())
        server = await asyncssh.create_server(
            asyncssh.SSHServer,
            "127.0.0.1",
            0,
            server_host_keys=[HOST_KEY],
            authorized_client_keys=users,
            process_factory=answer,
        )
        try:
            given = [arg() if callable(arg) else arg for arg in args]
            await getattr(self._hooks(server.get_port()), name)(*given)
        finally:
            server.close()

    def _hooks(self, port: int) -> VmHooks:
        login = SshLogin(
            host="127.0.0.1",
            port=port,
            user="root",
            host_key=" ".join(HOST_KEY.export_public_key().decode().split()[:2]),
            private_key=USER_KEY.export_private_key().decode(),
        )
        args = VirtualMachineArgs(
            access=ClusterAccess(),
            client=self.cluster,
            hooks=Hooks(),
            address="10.77.0.21",
            ssh=SshTarget(vm=login),
            group=GROUP,
            mesh_config={},
            cluster="cluster1",
            packages=self.packages,
            istiod_host="istiod.istio-system.svc",
            istiod_address="10.77.0.200",
            istiod_port=15012,
            root_certificate=ROOT,
            wanted_token=self.token,
        )
        self.desired = desired_host("billing-1", args, ROOT, "10.77.0.200", 15012)
        place = dataclasses.replace(entry_args("billing-1", args), healthy_within=0)
        credential = credential_args("billing-1", args)
        host = pulumi.Output.from_input(self.desired)
        return VmHooks(name="billing-1", args=args, credential=credential, entry=place, host=host)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "FORGOTTEN_SECONDS", 0)


def updated(before: str, after: str) -> pulumi.ResourceHookArgs:
    old, new = ({"create": command} for command in (before, after))
    return pulumi.ResourceHookArgs("", "", "billing-1-confirm", "", new_inputs=new, old_inputs=old)


CHANGED = updated("sh host confirm d0 c0", "sh host confirm d1 c1")


def registered(configuration: str) -> dict[str, Any]:
    return {
        "metadata": {
            "labels": {"istio-vm-mesh/configuration": configuration},
            "annotations": {"istio.io/connectedAt": "2026-11-21T11:00:00Z"},
        },
        "status": {"conditions": [{"type": "Healthy", "status": "True"}]},
    }


def test_a_vm_gets_what_it_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "x.deb").write_bytes(b"the package")
    digest = hashlib.sha256(b"the package").hexdigest()
    place = Place({"deb-amd64": Package(file=str(tmp_path / "x.deb"), sha256=digest)})
    place.do("upload", None)
    uploads = plan.uploads(place.desired)
    assert [command for command, _ in place.said] == [
        plan.present_command(uploads),
        *(plan.receive_command(upload) for upload in uploads),
    ]
    assert [stdin for _, stdin in place.said[1:]] == [plan.PROGRAM.decode(), "the package"]
    place.said.clear()
    place.says = lambda command, stdin: (0, f"{plan.PROGRAM_DIGEST}\n{digest}\n", "")
    place.do("upload", None)
    assert len(place.said) == 1


def test_a_vm_gets_a_token_right_before_it_enrols() -> None:
    place = Place()
    tokens = "/api/v1/namespaces/vm-apps/serviceaccounts/billing/token"
    place.cluster.answers = {SECRET: {"metadata": {"uid": "u1"}}, tokens: {"status": {"token": "a.b.c"}}}
    place.do("leave_and_get_token", None)
    assert place.said == [(plan.take_token(place.desired), "a.b.c")]
    assert place.cluster.asked == [ENTRY, SECRET, tokens], "three requests for a VM that joins"


def test_a_vm_leaves_under_its_old_name_before_it_gets_a_secret_under_the_new_one() -> None:
    place = Place()
    old = "/apis/networking.istio.io/v1/namespaces/old/workloadentries/ledger-10.77.0.21-net1"
    secrets = "/api/v1/namespaces/vm-apps/secrets"
    held = "/api/v1/namespaces/old/secrets?labelSelector=istio-vm-mesh%2Fvm"
    before = {"ENTRY": "old/ledger-10.77.0.21-net1", "SECRET": "vm-apps/istio-vm-billing-1"}
    now = {"ENTRY": "vm-apps/billing-10.77.0.21-net1", "SECRET": "vm-apps/istio-vm-billing-1.2", "IDENTITY": "x"}

    def changed() -> pulumi.ResourceHookArgs:
        # As the SDK has it where a private key is part of it.
        old, new = {"environment": before}, {"environment": pulumi.Output.secret(now)}
        return pulumi.ResourceHookArgs("", "", "billing-1-membership", "", new_inputs=new, old_inputs=old)

    def heir(vm: str) -> dict[str, Any]:
        metadata = {
            "labels": {"istio-vm-mesh/vm": vm},
            "annotations": {"istio-vm-mesh/entry": "ledger-10.77.0.21-net1"},
        }
        return {"items": [{"metadata": metadata}]}

    place.cluster.answers = {held: heir("billing-1"), old: {}, secrets: {}}
    place.do("keep_credential", changed)
    assert [(method, path) for method, path, _ in place.cluster.sent] == [("DELETE", old), ("POST", secrets)]
    place.cluster.sent.clear()
    place.cluster.answers = {held: heir("billing-2"), old: {}, secrets: {}}
    place.do("keep_credential", changed)
    assert [(method, path) for method, path, _ in place.cluster.sent] == [("POST", secrets)], "another VM has it"


def test_a_vm_that_has_used_its_token_gets_none_and_leaves_the_mesh_first() -> None:
    place = Place()
    place.token = Wanted(used=ROOT_DIGEST)
    place.cluster.answers = {SECRET: {"metadata": {"uid": "u1"}}, ENTRY: registered("c0")}
    place.do("leave_and_get_token", None)
    assert place.said == []
    assert [(method, path) for method, path, _ in place.cluster.sent] == [("DELETE", ENTRY)]


def test_a_vm_whose_configuration_stays_is_not_waited_for() -> None:
    place = Place()
    place.do("come_back", updated("sh host confirm d0 c1", "sh host confirm d0 found-12 c1"))
    assert (place.cluster.asked, place.said) == ([], [])


def test_a_vm_that_is_back_is_confirmed() -> None:
    place = Place()
    place.cluster.answers = lambda path: registered(place.desired.configuration)
    place.do("come_back", CHANGED)
    assert place.cluster.asked == [ENTRY]


def test_a_vm_that_had_registered_as_it_was_starts_once_more() -> None:
    place = Place()
    entries = iter(["c0", "c0", ""])
    place.cluster.answers = lambda path: registered(next(entries, "") or place.desired.configuration)
    place.do("come_back", CHANGED)
    ((command, stdin),) = place.said
    stamp = command.split()[-1]
    assert (command, stdin) == (plan.anew(place.desired, stamp).command, "")
    assert ("DELETE", ENTRY, None) in place.cluster.sent


def test_a_vm_that_is_not_back_is_taken_back_and_says_so() -> None:
    place = Place()
    told = '{"vm":"billing-1","code":"not-back","fact":"it runs as before"}'
    place.says = lambda command, stdin: (1, "", f"stopping\n{told}\n")
    place.cluster.answers = {f"{API}/workloadgroups/billing": {}}
    with pytest.raises(Refused) as raised:
        place.do("come_back", CHANGED)
    reason = "it has no WorkloadEntry after 0 s"
    assert str(raised.value) == f"VM billing-1 is not back in the mesh: {reason}; {told}"
    assert place.said == [(plan.not_back(place.desired, reason).command, reason)]
    note = {"went-back.istio-vm-mesh/billing-1": f"{place.desired.configuration}.1"}
    assert place.cluster.sent == [("PATCH", f"{API}/workloadgroups/billing", {"metadata": {"annotations": note}})]


def test_a_command_that_fails_on_the_vm_fails_the_step_with_its_last_word() -> None:
    place = Place()
    place.says = lambda command, stdin: (1, "", "one\nno space left on device\n")
    with pytest.raises(Refused) as raised:
        place.do("upload", None)
    assert str(raised.value) == "no space left on device"


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [("d0 c0", "d1 c1", True), ("d0 c1", "d1 c1", False), ("d0 c1", "d0 found-1 c1", False), ("d0", "d0 c1", True)],
)
def test_the_last_word_of_confirm_is_the_configuration(before: str, after: str, *, changes: bool) -> None:
    assert changes_configuration({"create": before}, {"create": after}) is changes


def test_confirm_names_the_configuration() -> None:
    place = Place()
    place._hooks(22)
    assert confirm_command(place.desired, "m").split()[-2:] == ["found-m", place.desired.configuration]
