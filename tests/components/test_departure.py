"""Leaving with a VM that may be dead, under a real shell, with an ssh that fails in the real one's words.

The words are those of OpenSSH 9.2, seen by provoking each failure.
"""

import os
import subprocess
from pathlib import Path

import pytest

from components.departure import SCRIPT, leaving
from components.kubectl import ClusterAccess
from hosts.login import SshLogin, SshTarget

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nnot to be seen\n-----END OPENSSH PRIVATE KEY-----"
VM = SshLogin(host="10.77.0.22", port=2222, user="ops", host_key="ssh-ed25519 AAAA", private_key=KEY)
BASTION = SshLogin(host="jump.example.com", port=22, user="me", host_key="ecdsa-sha2-nistp256 BBBB", private_key="jump")
FAKE_SSH = """#!/bin/sh
echo once >>"$HERE/runs"
folder=${2%/config}
(cd "$folder" && head -n 40 * && stat -c '%n %a' *) >"$HERE/files"
echo "$folder" >"$HERE/folder"
printf '%s\\n' "$@" >"$HERE/arguments"
case $4 in */vm.log) ;; *) exit 99 ;; esac
[ -z "$LOGS" ] || printf '%s\\n' "$LOGS" >"$4"
[ -z "$BASTION_LOGS" ] || printf '%s\\n' "$BASTION_LOGS" >"$folder/bastion.log"
[ -z "$SAYS" ] || echo "$SAYS" >&2
run=$(wc -l <"$HERE/runs")
set -- $STATUS
[ "$run" -le "$#" ] || run=$#
shift $((run - 1))
exit "$1"
"""
FAKE_KUBECTL = """#!/bin/sh
printf '%s\\n' "$*" >>"$HERE/kubectl-calls"
[ -z "$NO_CLUSTER" ] || { echo "$NO_CLUSTER" >&2; exit 1; }
case "$*" in
	*" get secrets "*) printf '%s\\n' "$SECRETS" ;;
	*" get workloadentries"*) printf '%s' "$THERE" ;;
	*" delete workloadentries"*) echo entry deleted ;;
	*" delete secrets "*) echo "revoked ${*##* secrets }" ;;
esac
"""
GONE = "entry deleted\nrevoked istio-vm-billing-2\n"


def leave(
    folder: Path,
    status: int | str,
    logs: str,
    bastion_logs: str | None = None,
    says: str = "",
    *,
    unreachable: bool = True,
    **cluster: str,
) -> subprocess.CompletedProcess[str]:
    """Let the script run with an ssh whose runs end with these exit codes, the last one as often as it is run."""
    for name, text in (
        ("ssh", FAKE_SSH),
        ("kubectl", FAKE_KUBECTL),
        ("sleep", '#!/bin/sh\necho "$1" >>"$HERE/slept"\n[ -z "$ENDED" ] || kill "$PPID"\n'),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "HERE": str(folder),
        "STATUS": str(status),
        "LOGS": logs,
        "BASTION_LOGS": bastion_logs or "",
        "SAYS": says,
        "SECRETS": cluster.get("secrets", "billing-2 istio-vm-billing-2"),
        "THERE": cluster.get("there", ""),
        "ENDED": cluster.get("ended", ""),
        "NO_CLUSTER": cluster.get("no_cluster", ""),
        "ISTIO_VM_MESH_KEY": KEY,
        "ISTIO_VM_MESH_BASTION_KEY": "jump",
    }
    text = leaving(
        "billing-2",
        SshTarget(vm=VM, bastion=None if bastion_logs is None else BASTION),
        ClusterAccess(kubeconfig="a b/kubeconfig", context="prod"),
        namespace="vm-apps",
        entry="billing-10.77.0.22-net1",
        take_down="sh host remove 10.77.0.22",
        unreachable=unreachable,
    )
    assert "not to be seen" not in text
    return subprocess.run(["sh", str(SCRIPT)], input=text, env=environment, capture_output=True, text=True, timeout=20)


def kubectl_calls(folder: Path) -> list[str]:
    calls = folder / "kubectl-calls"
    return calls.read_text().splitlines() if calls.exists() else []


def runs(folder: Path) -> int:
    return len((folder / "runs").read_text().splitlines())


IN = 'Authenticated to 10.77.0.22 ([10.77.0.22]:2222) using "publickey".'
THROUGH = 'Authenticated to jump.example.com ([192.0.2.1]:22) using "publickey".'
CLOSED = "kex_exchange_identification: Connection closed by remote host\nConnection closed by UNKNOWN port 65535"
TIMED_OUT = "Connection timed out during banner exchange\nConnection to UNKNOWN port 65535 timed out"
OTHER_KEY = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Someone could be eavesdropping on you right now (man-in-the-middle attack)!
It is also possible that a host key has just been changed.
The fingerprint for the ED25519 key sent by the remote host is
SHA256:oE4uoS9TING6sZmagvchKJ//YHxloDDstzR4HOYRLkQ.
Please contact your system administrator.
Add correct host key in /tmp/x/known_hosts to get rid of this message.
Offending ED25519 key in /tmp/x/known_hosts:1
  remove with:
  ssh-keygen -f "/tmp/x/known_hosts" -R "[10.77.0.22]:2222"
Host key for [10.77.0.22]:2222 has changed and you have requested strict checking.
Host key verification failed."""
HOST_KEY = (
    "at 10.77.0.22 answers a machine whose host key is not the stack's. If it is the VM, put it back into the stack "
    "with its new hostKey, run up, and take it out again. If the VM is gone and another machine has its address, take "
    "billing-2-membership out of the state (pulumi state delete) and run again."
)
BROKE_OFF = "the connection to it broke off 2 times. Run again."
REFUSED = (
    "ssh to it fails as said above, which is no proof that it is gone. Mend that, or switch it off, and run again."
)
STOPPED = (
    "ssh does not get past the bastion jump.example.com, so nobody knows whether it is there. "
    "Mend what is said above, and run again."
)
STAYS = "Its WorkloadEntry and its token are left alone."


def test_a_vm_that_answers_is_taken_down_as_any_other(tmp_path: Path) -> None:
    done = leave(tmp_path, 0, IN, says="the VM's own words")
    assert (done.returncode, done.stdout, done.stderr) == (0, GONE, "the VM's own words\n" * 2)
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[-2:] == ["vm", "sh host remove 10.77.0.22"]
    files = (tmp_path / "files").read_text()
    settings = {"StrictHostKeyChecking yes", "BatchMode yes", "IdentitiesOnly yes", "Port 2222", "User ops"}
    assert settings | {"HostName 10.77.0.22", "HostKeyAlgorithms ssh-ed25519"} <= set(files.splitlines())
    assert "[10.77.0.22]:2222 ssh-ed25519 AAAA" in files
    assert KEY in files
    assert {line.split()[1] for line in files.splitlines() if line.startswith(("vm.key ", "known_hosts "))} == {"600"}
    assert not Path((tmp_path / "folder").read_text().strip()).exists(), "the key must not stay"
    assert runs(tmp_path) == 2, "logged in to before it is taken out of the mesh"


def test_a_run_that_is_ended_leaves_no_key_behind(tmp_path: Path) -> None:
    assert leave(tmp_path, 0, IN, ended="y").returncode == 129
    assert not Path((tmp_path / "folder").read_text().strip()).exists()


def at(address: str, what: str) -> str:
    return f"ssh: connect to host {address} port 22: {what}"


@pytest.mark.parametrize(
    ("logs", "bastion_logs"),
    [
        (at("10.77.0.22", "Connection timed out"), None),
        (at("10.77.0.22", "Operation timed out"), None),
        (at("10.77.0.22", "Connection refused"), None),
        (at("10.77.0.22", "No route to host"), None),
        (at("10.77.0.22", "Network is unreachable"), None),
        (at("10.77.0.22", "Host is down"), None),
        ("Connection timed out during banner exchange\nConnection to 10.77.0.22 port 2222 timed out", None),
        ("kex_exchange_identification: Connection closed by remote host\nConnection closed by 10.77.0.22", None),
        ("kex_exchange_identification: read: Connection reset by peer\nConnection reset by 10.77.0.22", None),
        ("ssh_exchange_identification: Connection closed by remote host", None),
        (CLOSED, f"{THROUGH}\nchannel 0: open failed: connect failed: Connection refused\nstdio forwarding failed"),
        (CLOSED, f"{THROUGH}\nchannel 0: open failed: connect failed: No route to host\nstdio forwarding failed"),
        (CLOSED, f"{THROUGH}\nchannel 0: open failed: connect failed: Connection timed out\nstdio forwarding failed"),
        (CLOSED, f"{THROUGH}\nchannel 0: open failed: connect failed: dial tcp 10.77.0.22:22: i/o timeout"),
        (CLOSED, f"{THROUGH}\nKilled by signal 1."),
        (TIMED_OUT, f"{THROUGH}\nKilled by signal 1."),
    ],
)
def test_a_dead_vm_is_given_up_with_a_word_about_what_remains(
    tmp_path: Path, logs: str, bastion_logs: str | None
) -> None:
    done = leave(tmp_path, 255, logs, bastion_logs)
    assert (done.returncode, done.stdout) == (0, GONE)
    *said, warning = done.stderr.splitlines()
    assert logs.splitlines()[0] in said
    assert not [line for line in said if line.startswith("Authenticated")]
    assert warning.startswith("warning: VM billing-2 is unreachable and was given up")
    assert warning.endswith("removes them there: sh host remove 10.77.0.22")
    assert done.stderr.count("warning: ") == 1
    assert runs(tmp_path) == 2, "once more, before it is given up"


@pytest.mark.parametrize(
    ("logs", "bastion_logs", "told"),
    [
        (OTHER_KEY, None, HOST_KEY),
        (OTHER_KEY, THROUGH, HOST_KEY),
        (
            "No ED25519 host key is known for [10.77.0.22]:2222 and you have requested strict checking.\n"
            "Host key verification failed.",
            None,
            HOST_KEY,
        ),
        (
            "Unable to negotiate with 10.77.0.22 port 2222: no matching host key type found. "
            "Their offer: rsa-sha2-512,rsa-sha2-256",
            None,
            HOST_KEY,
        ),
        (
            "Unable to negotiate with 10.77.0.22 port 2222: no matching key exchange method found. "
            "Their offer: diffie-hellman-group14-sha1",
            None,
            REFUSED,
        ),
        ("ops@10.77.0.22: Permission denied (publickey).", None, REFUSED),
        ("ops@10.77.0.22: Permission denied (publickey).", THROUGH, REFUSED),
        (
            "Received disconnect from 10.77.0.22 port 2222:2: Too many authentication failures\n"
            "Disconnected from 10.77.0.22 port 2222",
            None,
            REFUSED,
        ),
        ("Connection closed by 10.77.0.22 port 2222", None, REFUSED),
        ("Connection reset by 10.77.0.22 port 2222", None, REFUSED),
        ("Connection to 10.77.0.22 port 2222 timed out", None, REFUSED),
        ("Connection closed by UNKNOWN port 65535", THROUGH, REFUSED),
        ("ssh: Could not resolve hostname vm.example.com: Name or service not known", None, REFUSED),
        (at("10.77.0.22", "Permission denied"), None, REFUSED),
        (f"{IN}\nTimeout, server 10.77.0.22 not responding.", None, BROKE_OFF),
        (f"{IN}\nTransferred: sent 3004, received 3220 bytes, in 0.7 seconds", None, BROKE_OFF),
        (f"{IN}\nTransferred: sent 3004, received 3220 bytes, in 0.7 seconds", THROUGH, BROKE_OFF),
        (CLOSED, at("jump.example.com", "Connection refused"), STOPPED),
        (TIMED_OUT, "", STOPPED),
        (CLOSED, "kex_exchange_identification: Connection closed by remote host", STOPPED),
        (CLOSED, "me@jump.example.com: Permission denied (publickey).", STOPPED),
        (CLOSED, OTHER_KEY, STOPPED),
        (
            CLOSED,
            f"{THROUGH}\nchannel 0: open failed: administratively prohibited: open failed\nstdio forwarding failed",
            STOPPED,
        ),
        (
            CLOSED,
            f"{THROUGH}\nchannel 0: open failed: connect failed: Temporary failure in name resolution",
            STOPPED,
        ),
    ],
)
def test_a_vm_that_refuses_or_is_not_seen_is_no_dead_one(
    tmp_path: Path, logs: str, bastion_logs: str | None, told: str
) -> None:
    done = leave(tmp_path, 255, logs, bastion_logs)
    assert (done.returncode, done.stdout) == (1, "")
    *said, error = done.stderr.splitlines()
    assert error == f"error: VM billing-2 has not left: {told} {STAYS}"
    assert not [line for line in said if "@@@" in line or "known_hosts" in line or line.startswith("Authenticated")]


def test_what_the_vms_own_commands_say_is_not_taken_for_sshs_word(tmp_path: Path) -> None:
    done = leave(tmp_path, 255, IN, says=at("10.77.0.22", "Connection refused"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(f"error: VM billing-2 has not left: {BROKE_OFF} {STAYS}\n")


def test_a_vm_that_fails_to_go_is_no_dead_one(tmp_path: Path) -> None:
    said = '{"vm":"billing-2","code":"residue"}'
    done = leave(tmp_path, "0 1", IN, says=said)
    assert (done.returncode, done.stdout, done.stderr) == (1, "entry deleted\n", f"{said}\n" * 2)
    assert runs(tmp_path) == 2


def test_a_vm_that_cannot_be_taken_out_of_the_mesh_is_not_taken_down(tmp_path: Path) -> None:
    done = leave(tmp_path, 0, IN, no_cluster="no cluster")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "no cluster\n")
    assert runs(tmp_path) == 1


def test_a_vm_is_out_of_the_mesh_before_its_sidecar_stops(tmp_path: Path) -> None:
    assert leave(tmp_path, 0, IN).returncode == 0
    ours = "--request-timeout=20s --kubeconfig=a b/kubeconfig --context=prod --namespace=vm-apps"
    entry = "workloadentries.networking.istio.io/billing-10.77.0.22-net1"
    of_entry = '[?(@.metadata.annotations.istio-vm-mesh/entry=="billing-10.77.0.22-net1")]'
    who = "{.metadata.labels.istio-vm-mesh/vm} {.metadata.name}"
    assert kubectl_calls(tmp_path) == [
        f'{ours} get secrets -l istio-vm-mesh/vm -o jsonpath={{range .items{of_entry}}}{who}{{"\\n"}}{{end}}',
        f"{ours} delete {entry} --ignore-not-found --wait=false",
        f"{ours} get {entry} --ignore-not-found --output=name",
        f"{ours} delete secrets istio-vm-billing-2",
    ]
    assert (tmp_path / "slept").read_text() == "2\n"


def test_an_entry_that_came_again_while_its_vm_drained_goes_too(tmp_path: Path) -> None:
    done = leave(tmp_path, 0, IN, there="workloadentry/billing-10.77.0.22-net1")
    assert done.stdout == "entry deleted\n" + GONE


def test_an_entry_that_is_another_vms_by_now_stays(tmp_path: Path) -> None:
    both = "billing-2 istio-vm-billing-2\nbilling-x istio-vm-billing-x"
    done = leave(tmp_path, 0, IN, secrets=both, there="workloadentry/billing-10.77.0.22-net1")
    assert (done.returncode, done.stdout) == (0, "left alone: it is billing-x by now\nrevoked istio-vm-billing-2\n")
    assert not [call for call in kubectl_calls(tmp_path) if " delete workloadentries" in call]


def test_where_the_vm_is_in_the_mesh_at_another_address_its_new_secret_stays(tmp_path: Path) -> None:
    """Only those of this entry are listed."""
    done = leave(tmp_path, 0, IN, secrets="")
    assert (done.returncode, done.stdout) == (0, "entry deleted\n")


def test_a_dead_vm_that_may_not_leave_is_named_with_what_to_do(tmp_path: Path) -> None:
    done = leave(tmp_path, 255, at("10.77.0.22", "Connection timed out"), unreachable=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        "error: VM billing-2 has not left: nothing answers at 10.77.0.22. Switch it on, and run again. If it is gone "
        "for good, put it back into the stack with removeUnreachable: true, run up, and take it out again. " + STAYS
    )


def test_a_vm_that_runs_no_commands_stays_in_the_mesh(tmp_path: Path) -> None:
    done = leave(tmp_path, 1, IN, says="This account is currently not available.")
    assert (done.returncode, done.stdout) == (1, "")


def test_a_connection_that_is_lost_once_is_made_again(tmp_path: Path) -> None:
    done = leave(tmp_path, "0 255 0", f"{IN}\nTimeout, server 10.77.0.22 not responding.")
    assert (done.returncode, done.stdout, done.stderr) == (0, GONE, "")
    assert runs(tmp_path) == 3


def test_a_vm_that_is_lost_for_good_while_it_goes_has_left_the_mesh(tmp_path: Path) -> None:
    done = leave(tmp_path, "0 255", f"{IN}\nTimeout, server 10.77.0.22 not responding.")
    told = f"error: VM billing-2 has not left: {BROKE_OFF} It is out of the mesh by now, its token is left alone.\n"
    assert (done.returncode, done.stdout) == (1, "entry deleted\n")
    assert done.stderr.endswith(told)


def test_a_vm_that_dies_while_it_goes_is_given_up(tmp_path: Path) -> None:
    done = leave(tmp_path, "0 255", at("10.77.0.22", "Connection timed out"))
    assert (done.returncode, done.stdout) == (0, GONE)
    assert "warning: VM billing-2 is unreachable and was given up" in done.stderr


def test_a_bastion_has_its_own_key_and_host_key(tmp_path: Path) -> None:
    leave(tmp_path, 0, "", THROUGH)
    files = (tmp_path / "files").read_text()
    assert "jump.example.com ecdsa-sha2-nistp256 BBBB" in files
    assert {"Host bastion", "HostName jump.example.com", "User me", "Port 22"} <= set(files.splitlines())
    proxy = next(line for line in files.splitlines() if line.startswith("ProxyCommand "))
    assert proxy.endswith('/bastion.log" -W [%h]:%p bastion')
