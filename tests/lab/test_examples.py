"""The examples that are shipped, each as a whole stack on the lab, and what `make verify` finds of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from stack import PREFIX, PROJECT, Kubectl, Stack, changes, committed_config, eventually, ssh_argv

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(500)]
EXAMPLES = PROJECT / "examples"


@pytest.fixture
def example(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """An example in place of the dev stack, which goes first: both say what is on the same VMs."""
    assert stack.run("destroy").returncode == 0
    raw = yaml.safe_load((EXAMPLES / request.param).read_text())["config"]
    stack.config = {key.removeprefix(PREFIX): value for key, value in raw.items()}
    stack.up()
    yield stack
    assert stack.run("destroy").returncode == 0
    stack.config = committed_config()


def analyzed(stack: Stack) -> list[str]:
    """What `istioctl analyze` says of the cluster, but for namespaces that are not the stack's."""
    argv = ["istioctl", "analyze", "--all-namespaces", "--kubeconfig", str(PROJECT / ".lab/kubeconfig")]
    done = subprocess.run(argv, env=dict(stack.environment), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    said = (done.stdout + done.stderr).splitlines()
    assert said, "it says at least that there is nothing to say"
    return [line for line in said if "(Namespace default)" not in line and not line.startswith("✔")]


@pytest.mark.parametrize("example", ["helloworld/Pulumi.helloworld.yaml"], indirect=True)
def test_helloworld_is_what_verify_measures(example: Stack, kubectl: Kubectl) -> None:
    assert set(example.states().values()) == {"healthy"}
    done = example.module("verify", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    host = "helloworld.helloworld.svc.cluster.local"
    found = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if line.startswith("ok ")]
    for wanted in ("weights", "timeout", "retries"):
        assert [line for line in found if line.split()[:2] == [wanted, host]], done.stdout
    assert sum(line.startswith("plain text refused") for line in found) == 2
    assert "6 retries of 3 refused requests (attempts: 2)" in done.stdout
    assert kubectl("get", "namespace", "istio-vm-mesh-verify", "--ignore-not-found") == "", "the tool is gone"
    assert analyzed(example) == []

    # The check is one: with other weights than the mesh has, it fails, and the one edit is one object in the plan.
    routes = example.config["traffic"][host]["routes"]
    routes[0]["weight"], routes[1]["weight"] = 50, 50
    assert changes(example.preview()) == {f"{host}-virtual-service": "update"}
    wrong = example.module("verify", timeout=300)
    assert wrong.returncode == 1
    assert [line.split()[:3] for line in wrong.stdout.splitlines() if line.startswith("FAILED")] == [
        ["FAILED", "weights", host]
    ], wrong.stdout


@pytest.mark.parametrize("example", ["bookinfo/Pulumi.bookinfo.yaml"], indirect=True)
def test_the_page_gets_its_ratings_from_the_vm(example: Stack, kubectl: Kubectl) -> None:
    pods = str(EXAMPLES / "bookinfo/pods.yaml")
    kubectl("apply", "-f", pods)
    try:
        for name in ("productpage", "reviews"):
            kubectl("-n", "bookinfo-pods", "rollout", "status", f"deploy/{name}", "--timeout=90s")
        ratings = "http://ratings.bookinfo:9080/"
        page = "http://productpage.bookinfo-pods:9080/fetch?u="
        chain = f"{page}http://reviews.bookinfo-pods:9080/fetch?u={ratings}"

        def asked(url: str) -> str:
            argv = ssh_argv("10.77.0.21", ["curl", "-sS", "--max-time", "5", "-w", "'%{http_code}'", f"'{url}'"])
            return subprocess.run(argv, capture_output=True, text=True, timeout=30).stdout

        answer = "Hello version: v1, instance: billing-1\n200"
        eventually(lambda: asked(chain) == answer, seconds=60, what=f"the page has its ratings: {asked(chain)!r}")
        assert asked(f"{page}{ratings}").endswith("403"), "ratings lets in reviews alone"
        assert analyzed(example) == []
    finally:
        kubectl("delete", "-f", pods, "--wait=true")


def test_every_example_says_how_it_is_run() -> None:
    folders = [path.parent for path in EXAMPLES.glob("*/Pulumi.*.yaml")]
    assert len(folders) == 2
    assert all(
        str(next(Path(folder).glob("Pulumi.*.yaml")).name) in (folder / "README.md").read_text() for folder in folders
    )
