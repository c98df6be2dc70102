"""Revisions: which control plane a workload's VMs have, and why a tag is none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from settings import parse, revision_of, tags_of


def test_a_workload_has_the_main_revision_if_it_does_not_say_otherwise(stack: dict[str, Any], project: Path) -> None:
    stack["istio"] |= {
        "revision": "blue",
        "revisions": {"default": {"revisionTags": ["old"]}, "green": {}},
    }
    stack["istio"]["revisionTags"] = ["prod"]
    billing = stack["workloads"]["billing"]
    found = {}
    for asked in (None, "default", "", "green", "blue"):
        billing["revision"] = asked
        settings = parse(stack, project_dir=project)
        found[asked] = revision_of(settings.istio, settings.workloads["billing"])
    assert found == {None: "blue", "default": "", "": "", "green": "green", "blue": "blue"}
    assert tags_of(settings.istio) == {"prod": "blue", "old": ""}


def test_a_tag_is_no_revision_for_vms(stack: dict[str, Any], problems: Callable[..., list[str]]) -> None:
    stack["istio"] |= {"revisions": {"canary": {"revisionTags": ["next"]}}, "revisionTags": ["prod"]}
    stack["workloads"]["billing"]["revision"] = "next"
    what = "a tag, whose name istiod's certificate does not bear: VMs would refuse it"
    assert problems(stack) == [
        f'workloads.billing.revision: {what} (got "next"), the revision that it points at, canary'
    ]
    stack["workloads"]["billing"]["revision"] = "prod"
    assert problems(stack) == [
        f'workloads.billing.revision: {what} (got "prod"), the revision that it points at, default'
    ]


def test_the_tag_default_is_for_a_stack_without_the_default_revision(
    stack: dict[str, Any], problems: Callable[..., list[str]]
) -> None:
    stack["istio"] |= {"revision": "blue", "revisionTags": ["default"]}
    assert problems(stack) == []


def test_namespaces_name_revisions_and_tags(stack: dict[str, Any], problems: Callable[..., list[str]]) -> None:
    stack["istio"] |= {"revisions": {"canary": {"revisionTags": ["next"]}}, "revisionTags": ["prod"]}
    for injection in ("default", "canary", "next", "prod"):
        stack["namespaces"] = {"shop": {"injection": injection}}
        assert problems(stack) == []
