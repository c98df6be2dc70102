"""Every mistake a stack file can hold, with the exact text it is told in (mistakes.yaml), and many at once."""

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import settings_samples
import yaml

from settings.model import Model
from settings.models import StackConfig
from settings.problems import Problem, show
from settings.translate import model_at


def _filled(value: Any) -> Any:
    """Return a value of mistakes.yaml with `${NAME}` replaced by what settings_samples calls so."""
    if isinstance(value, dict):
        return {key: _filled(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner) for inner in value]
    return string.Template(value).substitute(vars(settings_samples)) if isinstance(value, str) else value


MISTAKES = yaml.load(Path(__file__).with_name("mistakes.yaml").read_text(), Loader=yaml.CSafeLoader)


def spoil(stack: dict[str, Any], mistake: dict[str, Any]) -> None:
    """Put the value at the path, or take the path's key away."""
    *keys, last = mistake["path"].split(".")
    here = stack
    for key in keys:
        here = here.setdefault(key, {})
    if "value" in mistake:
        here[last] = _filled(mistake["value"])
    else:
        del here[last]


def test_what_is_spoiled_was_right(stack: dict[str, Any], problems: Callable[..., list[str]]) -> None:
    assert problems(stack) == []


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake["told"][0] for mistake in MISTAKES])
def test_a_mistake_is_told(mistake: dict[str, Any], stack: dict[str, Any], problems: Callable[..., list[str]]) -> None:
    spoil(stack, mistake)
    assert problems(stack) == mistake["told"]


def _models(model: type[Model]) -> list[type[Model]]:
    """Return a model and all below it."""
    found = [model]
    for field in model.model_fields.values():
        for step in ((field.alias,), (field.alias, "x")):
            try:
                inner = model_at(model, step)
            except (AssertionError, IndexError):
                continue
            found += _models(inner)
            break
    return found


def test_every_key_of_later_versions_is_refused_by_name() -> None:
    told = [line for mistake in MISTAKES for line in mistake["told"]]
    refused = {line.split(":")[0].split(".")[-1] for line in told if "support" in line or "refuses gRPC" in line}
    later = {key for model in _models(StackConfig) for key in model.later | model.refused.keys()}
    assert {"remoteClusters", "grpc"} <= later
    assert later <= refused


def test_all_mistakes_are_told_at_once(stack: dict[str, Any], problems: Callable[..., list[str]]) -> None:
    stack["clutser"] = {}
    stack["cluster"] = {"network": "net1", "kubeconfig": "nowhere", "nam": "x"}
    stack["istio"]["charts"] = "few"
    vms = stack["workloads"]["billing"]["vms"]
    stack["workloads"]["billing"]["ports"] = {"HTTP": 8080}
    vms["billing-2"] = {"address": "10.0.0.1", "adress": "10.0.0.2", "hostKey": settings_samples.RSA_KEY}
    vms["billing-4"] = {"address": "10.0.0.4"}
    vms["billing-5"] = None
    assert [line.split(" (got")[0] for line in problems(stack)] == [
        "cluster.name: missing, give it: Name of the cluster in the mesh",
        "cluster.nam: unknown key",
        "workloads.billing.ports.HTTP: not a port name (RFC 1123 label)",
        "workloads.billing.vms.billing-2.adress: unknown key",
        "workloads.billing.vms.billing-5: not a mapping",
        "clutser: unknown key",
        "workloads.billing.vms.billing-2.address: the address of workloads.billing.vms.billing-1.address too",
        "istio.charts: has no chart istiod, gateway",
        "workloads.billing.vms.billing-2.hostKey: an RSA key, with which the provider's ssh client cannot negotiate",
        "workloads.billing.vms.billing-4.hostKey: has no key of 10.0.0.4",
    ]


def test_a_vm_without_any_host_key(stack: dict[str, Any], problems: Callable[..., list[str]]) -> None:
    del stack["hosts"]["ssh"]["knownHostsFile"]
    assert problems(stack) == [
        f"workloads.billing.vms.{vm}.hostKey: missing, the VM's Ed25519 or ECDSA host key, or hosts.ssh.knownHostsFile"
        for vm in ("billing-1", "billing-2")
    ]


def test_a_file_that_many_vms_need_is_refused_once(stack: dict[str, Any], problems: Callable[..., list[str]]) -> None:
    stack["hosts"]["ssh"].update(privateKeyFile="id_open", knownHostsFile="binary")
    assert problems(stack) == [
        'hosts.ssh.privateKeyFile: others can read or write it (mode 0644) (got "id_open"), chmod 600 id_open',
        'hosts.ssh.knownHostsFile: is no text file (got "binary"), a text file',
    ]


def test_no_message_repeats_a_secret(stack: dict[str, Any], problems: Callable[..., list[str]]) -> None:
    del stack["hosts"]["ssh"]["privateKeyFile"]
    stack["sshPrivateKey"] = "hunter2"
    stack["hosts"]["ssh"]["user"] = "hunter2 "
    stack["hosts"]["ssh"]["privateKey"] = "hunter2"
    told = problems(stack, sealed=frozenset({"hosts"}))
    assert [line.split(":")[0] for line in told] == ["hosts.ssh.user", "hosts.ssh.privateKey"]
    assert "hunter2" not in "\n".join(told)
    for key in (settings_samples.PRIVATE_KEY, settings_samples.ENCRYPTED_OPENSSH, settings_samples.PEM_KEY):
        stack["hosts"]["ssh"] = {"knownHostsFile": key, "user": key}
        stack["sshPrivateKey"] = key[:60]
        told = problems(stack)
        assert len(told) >= 2
        assert key.splitlines()[1] not in "\n".join(told)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "nothing"),
        (True, "true"),
        (8080, "the number 8080"),
        ("text", '"text"'),
        ('a "quote"\n', '"a \\"quote\\"\\n"'),
        ("Ä", '"Ä"'),
        ("x" * 100, '"' + "x" * 55 + '..."'),
        ({"a": 1}, "a mapping of 1"),
        ([1, 2], "a list of 2"),
        ("https://me:pw@host/", '"https://[hidden]@host/"'),
        ({1}, "set"),
    ],
)
def test_how_a_value_is_shown(value: Any, shown: str) -> None:
    assert show(value) == shown


def test_a_problem_names_its_section() -> None:
    for path in ("hosts", "hosts.ssh", 'hosts["a.b"]'):
        assert Problem(path=path, what="", right="").section == "hosts"
