"""What holds of the plan for every desired state: it is reached from anywhere, once is enough, nothing needs quoting.

Each example runs the host's program under a real shell, on a folder that stands for `/`; more of them with
`make unit ARGS=--hypothesis-profile=thorough`.
"""

from __future__ import annotations

import itertools
import json
import string
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml
from few_examples import few
from host_program import run as run_beside
from hypothesis import assume, example, given
from hypothesis import strategies as st
from settings_samples import DIGEST, HOST_KEY, PRIVATE_KEY

from arguments import workload_args
from components.workload import group_of_vm, workload_group
from hosts import go_yaml
from hosts.plan import HELPER, STATE, DesiredHost, Package
from hosts.sidecar_files import SidecarFiles, sidecar_files
from settings import SettingsError, parse

property_of_the_plan = few(4)
SHELLS = pytest.mark.parametrize("shell", ["dash", "bash"])
DROP_IN = "/etc/systemd/system/istio.service.d/istio-vm-mesh.conf"
WRITE = 'write_files; put "$state/desired" 644 root:root <"$desired"; put "$helper" 755 root:root <"$0"'
"""What `configure` does once the host has been checked and has the package."""
MESH, ENVIRONMENT, ROOT = "/etc/istio/config/mesh", "/var/lib/istio/envoy/cluster.env", "/etc/certs/root-cert.pem"
MANAGED = (MESH, ENVIRONMENT, ROOT, DROP_IN, "/etc/hosts", HELPER, f"{STATE}/desired")

PACKAGE = Package(url="http://10.77.0.5/istio-sidecar.deb", sha256=DIGEST)

folders = itertools.count()
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
lines = texts.map(lambda text: text.replace("# istio-vm-mesh", "").replace("\n", ""))
addresses = st.ip_addresses(v=4, network="10.0.0.0/8").map(str)
states = st.builds(
    DesiredHost,
    vm=st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True),
    files=st.builds(
        SidecarFiles,
        mesh_yaml=texts,
        cluster_env=texts,
        hosts=st.builds("{} {}\n".format, addresses, lines),
        root_certificate=texts,
    ),
    packages=st.just({"deb-amd64": Package(url="http://10.77.0.5/istio-sidecar.deb", sha256=DIGEST)}),
    istiod_host=st.sampled_from(["istiod.istio-system.svc", "istiod-canary.istio-system.svc"]),
    istiod_address=addresses,
    istiod_port=st.integers(1, 65535),
    address=addresses,
)
hosts_files = st.builds(lambda many, last: "\n".join([*many, last]), st.lists(lines, max_size=4), lines)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hosts")


def fresh(place: Path, hosts: str = "127.0.0.1 localhost\n") -> Path:
    """A new folder that stands for `/`, with an /etc/hosts of somebody's."""
    root = place / str(next(folders))
    (root / "etc").mkdir(parents=True)
    (root / "etc/hosts").write_bytes(hosts.encode())
    return root


def run(shell: str, root: Path, desired: DesiredHost, statements: str) -> CompletedProcess[bytes]:
    """Run statements after the program's functions; nothing is owned by others, and nothing outside of the folder."""
    return run_beside(shell, root, desired, statements, beside=root)


def apply(shell: str, root: Path, desired: DesiredHost) -> list[str]:
    """Bring a host to a state, and return the paths that this has changed, as the host says."""
    done = run(shell, root, desired, WRITE)
    assert (done.returncode, done.stderr) == (0, b"")
    return [line.removeprefix("changed ").removeprefix(str(root)) for line in done.stdout.decode().splitlines()]


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of every file, without what names the folder itself."""
    return {
        f"/{path.relative_to(root)}": (path.stat().st_mode, path.read_bytes().replace(bytes(root), b""))
        for path in root.rglob("*")
        if path.is_file()
    }


def inodes(root: Path) -> dict[str, tuple[int, int]]:
    """What changes whenever a file is touched."""
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}


@SHELLS
@property_of_the_plan
@given(state=states, hosts=hosts_files)
def test_twice_is_once(shell: str, place: Path, state: DesiredHost, hosts: str) -> None:
    root = fresh(place, hosts)
    assert set(apply(shell, root, state)) == set(MANAGED)
    once = inodes(root)
    assert apply(shell, root, state) == []
    assert inodes(root) == once
    assert set(tree(root)) == set(MANAGED), "no temporary file is left"


@SHELLS
@property_of_the_plan
@given(one=states, other=states, hosts=hosts_files, stop=st.sampled_from([None, *MANAGED]))
def test_any_state_leads_to_any_other(
    shell: str, place: Path, one: DesiredHost, other: DesiredHost, hosts: str, stop: str | None
) -> None:
    """Also where the way to the first one was cut: the run was killed in the middle of writing one of the files."""
    root, never = fresh(place, hosts), fresh(place, hosts)
    if stop:
        killed = f'mv() {{ case $* in *" $root{stop}") kill -9 $$; exit 9 ;; esac; command mv "$@"; }}\n{WRITE}'
        assert run(shell, root, one, killed).returncode == -9
    else:
        apply(shell, root, one)
    before = tree(root)
    changed = apply(shell, root, other)
    apply(shell, never, other)
    after = tree(root)
    assert after == tree(never), "where a host comes from cannot be seen"
    assert set(changed) == {path for path in MANAGED if before.get(path) != after[path]}
    assert run(shell, root, other, "put_hosts ''").returncode == 0
    assert (root / "etc/hosts").read_bytes() == hosts.encode()


# Every text that a stack file may hold, as wild as it may be; `parse` itself says that it may.
values = st.from_regex(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,20}[A-Za-z0-9])?)?", fullmatch=True)
keys = st.from_regex(r"([a-z0-9]{1,8}\.[a-z]{1,8}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,20}[A-Za-z0-9])?", fullmatch=True)
names = st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
dotted = st.from_regex(r"[a-z0-9]{1,8}(\.[a-z0-9]{1,8}){0,2}", fullmatch=True)
EVIL = [
    "'",
    "\\",
    "$(touch x)",
    "`touch x`",
    '"; touch x; "',
    "a\nb",
    "#",
    "%s",
    "-n",
    "*",
    "~",
    "!!",
    "\t",
    "\r\n",
    "'\"'",
]
wild = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30) | st.sampled_from(EVIL)
some = wild.filter(bool)
fields = st.from_regex(r"[-_A-Za-z0-9]{1,20}", fullmatch=True)
headers = st.lists(st.fixed_dictionaries({"name": fields, "value": some}), min_size=1, max_size=2)
paths = st.text(string.ascii_letters + string.digits + string.punctuation, max_size=30).map("/{}".format)
variables = st.dictionaries(st.from_regex(r"MY_[A-Z0-9_]{1,10}", fullmatch=True), wild, max_size=3)
probes = st.one_of(
    st.fixed_dictionaries(
        {"path": paths, "port": st.integers(1, 14999), "host": some}, optional={"httpHeaders": headers}
    ).map(lambda probe: {"httpGet": probe}),
    st.lists(some, min_size=1, max_size=4).map(lambda command: {"exec": {"command": command}}),
)


def apart(ports: Mapping[str, int]) -> bool:
    return len(set(ports.values())) == len(ports)


workloads = st.fixed_dictionaries(
    {
        "namespace": names,
        "serviceAccount": dotted,
        "labels": st.dictionaries(keys, values, max_size=3),
        "annotations": variables.map(
            lambda known: {"proxy.istio.io/config": yaml.safe_dump({"proxyMetadata": known}, allow_unicode=True)}
        ),
        "network": values.filter(bool),
        "ports": st.dictionaries(names, st.integers(1024, 14999), max_size=3).filter(apart),
        "probe": probes,
        "vms": st.builds(lambda name, address: {name: {"address": address, "hostKey": HOST_KEY}}, names, addresses),
    }
)


WORST: dict[str, Any] = {
    "namespace": "vm-apps",
    "serviceAccount": "billing",
    "labels": {},
    "annotations": {
        "proxy.istio.io/config": yaml.safe_dump({"proxyMetadata": {f"MY_{n}": text for n, text in enumerate(EVIL)}})
    },
    "network": "net1",
    "ports": {},
    "probe": {"exec": {"command": EVIL}},
    "vms": {"billing-1": {"address": "10.77.0.21", "hostKey": HOST_KEY}},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "id").write_text(PRIVATE_KEY)
    (folder / "id").chmod(0o600)
    return folder


def stack_of(workload: Mapping[str, Any], trust_domain: str, mesh: str) -> dict[str, Any]:
    return {
        "cluster": {"name": "cluster1", "network": "net1"},
        "istio": {"version": "1.31.1", "trustDomain": trust_domain, "meshId": mesh},
        "hosts": {
            "sidecar": {"amd64": {"deb": {"url": "http://mirror/istio-sidecar.deb", "sha256": DIGEST}}},
            "ssh": {"privateKeyFile": "id"},
        },
        "workloads": {"billing": dict(workload)},
    }


def desired_of(raw: Mapping[str, Any], project: Path) -> DesiredHost | None:
    """What the stack's only VM is to become, or None where the settings refuse the stack."""
    try:
        stack = parse(raw, project_dir=project)
    except SettingsError:
        return None
    workload = stack.workloads["billing"]
    ((name, vm),) = workload.vms.items()
    files = sidecar_files(
        group=group_of_vm(workload_group("billing", workload_args(stack, "billing", [])), vm.labels),
        mesh_config={"trustDomain": stack.istio.trust_domain, "defaultConfig": {"meshId": stack.istio.mesh_id}},
        cluster_id=stack.cluster.name,
        root_certificate="-----BEGIN CERTIFICATE-----\n",
        istiod_address="10.77.0.200",
        service_ip=vm.address,
    )
    return DesiredHost(
        vm=name,
        files=files,
        packages={"deb-amd64": PACKAGE},
        istiod_host="istiod.istio-system.svc",
        istiod_address="10.77.0.200",
        istiod_port=15012,
        address=vm.address,
    )


@SHELLS
@property_of_the_plan
@given(workload=workloads, trust_domain=dotted, mesh=values.filter(bool))
@example(workload=WORST, trust_domain="cluster.local", mesh="mesh1")
def test_every_text_that_settings_accept_arrives(
    shell: str, place: Path, project: Path, workload: dict[str, Any], trust_domain: str, mesh: str
) -> None:
    desired = desired_of(stack_of(workload, trust_domain, mesh), project)
    assume(desired)  # the settings refuse some, as a number where a text belongs
    root = fresh(place)
    # The shell that starts the sidecar reads cluster.env; it prints what it has read, and nothing else happens.
    source = f"{{ {WRITE}; }} >/dev/null; cd $root; set -a; . var/lib/istio/envoy/cluster.env; /usr/bin/env -0"
    done = run(shell, root, desired, source)
    assert (done.returncode, done.stderr) == (0, b"")
    found = dict(item.split("=", 1) for item in done.stdout.decode().split("\0") if item)
    labels = json.loads(found["ISTIO_METAJSON_LABELS"])
    metadata = yaml.safe_load(workload["annotations"]["proxy.istio.io/config"])["proxyMetadata"]
    wanted = {
        **metadata,
        "TRUST_DOMAIN": trust_domain,
        "ISTIO_META_MESH_ID": mesh,
        "ISTIO_META_NETWORK": workload["network"],
        "POD_NAMESPACE": workload["namespace"],
        "SERVICE_ACCOUNT": workload["serviceAccount"],
        "ISTIO_SVC_IP": desired.address,
    }
    assert {key: found[key] for key in wanted} == wanted
    assert {key: labels[key] for key in workload["labels"]} == workload["labels"]
    config = go_yaml.load((root / MESH.lstrip("/")).read_bytes().decode())["defaultConfig"]
    assert config["proxyMetadata"].items() >= metadata.items()
    ((kind, probe),) = workload["probe"].items()
    assert config["readinessProbe"][kind].items() >= probe.items()
    assert set(tree(root)) == set(MANAGED), "nothing of it has run"
