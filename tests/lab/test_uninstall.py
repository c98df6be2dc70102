"""`destroy` leaves the cluster as it was before the stack: every object of every kind is compared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from stack import Kubectl, Stack, committed_config, eventually

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(600)]

Objects = dict[str, str]
"""`<kind> <namespace>/<name>` -> its uid, as far as nobody made it anew."""
PASSING = {"Event", "Lease"}
"""Kinds that come and go, or are taken anew, in an idle cluster too."""
KEPT = r"(CustomResourceDefinition|APIService) /.*\.istio\.io$"
FOREIGN = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: somebody-elses, namespace: default}
spec: {hosts: [api.example.com], ports: [{number: 443, name: https, protocol: TLS}], resolution: DNS}
"""


@pytest.fixture
def bare(stack: Stack, kubectl: Kubectl) -> Iterator[Stack]:
    """The dev stack, destroyed, in a cluster that has never seen Istio as far as anybody can tell."""
    destroy(stack)
    crds = kubectl("get", "crds", "-o", "name").split()
    if crds:
        kubectl("delete", *crds)
    yield stack
    stack.config = committed_config()
    stack.up()


def destroy(stack: Stack) -> str:
    done = stack.run("destroy")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def everything(kubectl: Kubectl) -> Objects:
    """Every object of every kind that can be listed."""
    kinds = kubectl("api-resources", "--verbs=list", "--output=name").split()
    listed = json.loads(kubectl("get", ",".join(kinds), "--all-namespaces", "--output=json"))["items"]
    found: Objects = {}
    for item in listed:
        metadata = item["metadata"]
        if item["kind"] not in PASSING:
            found[f"{item['kind']} {metadata.get('namespace', '')}/{metadata['name']}"] = metadata.get("uid", "")
    return found


def in_turn(order: list[str], stages: list[str]) -> None:
    """Hold that all of a stage, a resource or the objects of a chart, has gone before the next one begins to go."""
    spans = [[i for i, name in enumerate(order) if name.startswith(stage)] for stage in stages]
    for stage, earlier, later in zip(stages[1:], spans, spans[1:], strict=False):
        assert earlier and later and max(earlier) < min(later), (stage, order)


def settled(kubectl: Kubectl, wanted: Objects) -> None:
    """Wait until the cluster has done what a deletion goes on with: what its owners take with them."""
    eventually(
        lambda: everything(kubectl) == wanted,
        seconds=30,
        what=f"the cluster is as before: {set(everything(kubectl).items()) ^ set(wanted.items())}",
    )


def test_destroy_leaves_nothing_but_the_crds_and_in_the_right_order(bare: Stack, kubectl: Kubectl) -> None:
    before = everything(kubectl)
    assert not [name for name in before if "istio" in name], "something of Istio was there before"
    assert [name for name in before if name.startswith("Pod kube-system/")], "or this test sees nothing"
    bare.up()
    during = everything(kubectl)
    assert len(during) > len(before) + 80
    assert "ConfigMap default/istio-ca-root-cert" in during

    said = destroy(bare)
    order = re.findall(r"^ -  deleted +\S+ (\S+)", said, flags=re.MULTILINE)
    below = ["istio-istiod:", "istio-base", "istio-namespace", "istio-residue"]
    for way in ("billing-group", "east-west-chart:"):  # rules and the gateway do not need each other
        in_turn(order, ["billing-1-enrol", "billing-1-configure", way, *below])

    # Each of the CRDs' API versions is an object of the API server's own.
    kept = {name: uid for name, uid in everything(kubectl).items() if re.match(KEPT, name)}
    assert sum(name.startswith("CustomResourceDefinition") for name in kept) == 15
    settled(kubectl, before | kept)

    # They are no hindrance to the next stack, which may take them with it.
    bare.config["istio"]["removeCrds"] = True
    bare.up()
    kubectl("apply", "-f", "-", stdin=FOREIGN)
    refused = bare.run("destroy")
    assert refused.returncode == 1
    assert "ServiceEntry default/somebody-elses" in refused.stdout + refused.stderr
    assert kubectl("get", "serviceentries", "-n", "default", "-o", "name")
    kubectl("delete", "-f", "-", stdin=FOREIGN)
    destroy(bare)
    settled(kubectl, before)
