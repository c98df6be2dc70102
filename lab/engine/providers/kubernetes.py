"""The `kubernetes` package: objects of any kind by server-side apply, with Pulumi's names, diffs, awaits and previews.

Helm's charts and releases live in `helm.py`; this module sends their types there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final

from lab.engine.diffs import diff_inputs
from lab.engine.providers import kube_await, kube_objects
from lab.engine.providers.base import CheckError, Child, Context, Diff, Provider, ProviderError, Values
from lab.engine.providers.helm import CHART, RELEASE, Helm
from lab.engine.providers.kube_client import ApiError, Kind, KubeClient, NoKind, Object
from lab.engine.values import UNKNOWN, has_unknown

_OPTIONS: Final = {"kubeconfig", "context", "namespace", "clusterIdentifier", "version", "enableServerSideApply"}
_PATIENCE: Final = 30.0
"""Seconds for which a create is tried again while its namespace or its kind is not there yet."""


class KubernetesProvider(Provider):
    """One cluster, as one provider resource of the program describes it."""

    def __init__(self, config: Values) -> None:
        given = {key: value for key, value in config.items() if value is not None}
        problems = [
            (key, "is not an option that the embedded engine supports") for key in sorted(set(given) - _OPTIONS)
        ]
        if str(given.get("enableServerSideApply", "true")).lower() != "true":
            problems.append(("enableServerSideApply", "must be true: the embedded engine has no other way"))
        text = str(given.get("kubeconfig", "")).strip()
        if "\n" in text or text.startswith("{"):  # it would have to be written down for Helm, credentials and all
            problems.append(("kubeconfig", "must be a path: the embedded engine takes no kubeconfig as text"))
        if problems:
            raise CheckError(problems)
        self._config = given

    @cached_property
    def _client(self) -> KubeClient:
        if UNKNOWN in (self._config.get("kubeconfig"), self._config.get("context")):
            raise ProviderError("the provider's kubeconfig is not known yet")
        return KubeClient(self._config.get("kubeconfig"), self._config.get("context"))

    @cached_property
    def _namespace(self) -> str:
        return self._config.get("namespace") or self._client.namespace

    @cached_property
    def _helm(self) -> Helm:
        return Helm(self._client, self._namespace, self._is_namespaced)

    def supports(self, type_: str) -> bool:
        """Tell whether this is an object, a chart or a release; other Helm and YAML components are not supported."""
        module, _, kind = type_.removeprefix("kubernetes:").partition(":")
        if type_ in (CHART, RELEASE):
            return True
        components = module.startswith(("helm.sh/", "yaml", "kustomize")) or module == "index"
        return bool(kind) and "/" in module and not components and not kind.endswith("List")

    def moved(self, old_config: Values) -> tuple[str, ...]:
        """Return what makes this another cluster: its identifier where both have one, else any other way to it."""
        identified = old_config.get("clusterIdentifier") and self._config.get("clusterIdentifier")
        keys = ("clusterIdentifier",) if identified else ("kubeconfig", "context")
        return tuple(key for key in keys if old_config.get(key) != self._config.get(key))

    def check(self, type_: str, old: Values | None, new: Values, *, name: str) -> dict[str, Any]:
        """Fill in apiVersion, kind and the namespace."""
        if type_ == RELEASE:
            return self._helm.check(new)
        api_version, kind = kube_objects.kind_of(type_)
        inputs = {"apiVersion": api_version, "kind": kind} | {k: v for k, v in new.items() if v is not None}
        metadata = inputs.get("metadata")
        if metadata is UNKNOWN:
            return inputs
        if not isinstance(metadata, Mapping) or not metadata.get("name"):
            raise CheckError([("metadata.name", "is required: the embedded engine makes up no names")])
        if not metadata.get("namespace") and self._is_namespaced(api_version, kind):
            inputs["metadata"] = {**metadata, "namespace": self._namespace}
        return inputs

    def diff(self, type_: str, id_: str, old_inputs: Values, old_outputs: Values, new_inputs: Values) -> Diff:
        """Compare the inputs; what the API server fills in is no difference."""
        if type_ == RELEASE:
            return self._helm.diff(old_inputs, new_inputs)
        old, new = kube_objects.normalised(old_inputs), kube_objects.normalised(new_inputs)
        same_place = _place(old) == _place(new)
        return diff_inputs(old, new, kube_objects.replacing(new), delete_before_replace=same_place)

    def create(self, type_: str, inputs: Values, context: Context) -> tuple[str, dict[str, Any]]:
        """Create an object that must not exist yet (unless an earlier run of this resource made it), and await it."""
        if type_ == RELEASE:
            return self._helm.create(inputs, context)
        manager, patch = kube_objects.field_manager({}, context.urn), kube_objects.is_patch(type_)
        if context.preview:
            dry = self._dry_run(inputs, manager, new=not patch)
            return "", dict(inputs) if dry is None else kube_objects.preview_of(dry, inputs, manager)
        obj = kube_objects.wire(inputs)
        write = self._write_present if patch else self._write_new
        kind, live = self._retry(obj, lambda kind: write(kind, obj, manager, context), context)
        return self._await(kind, obj, live, manager, context)

    def update(
        self, type_: str, id_: str, old_inputs: Values, old_outputs: Values, new_inputs: Values, context: Context
    ) -> dict[str, Any]:
        """Apply the new inputs and await the object."""
        if type_ == RELEASE:
            return self._helm.update(new_inputs, context)
        manager = kube_objects.field_manager(old_outputs, context.urn)
        if context.preview:
            dry = self._dry_run(new_inputs, manager, new=False)
            return dict(new_inputs) if dry is None else kube_objects.outputs_of(dry, manager)
        obj = kube_objects.wire(new_inputs)
        kind, live = self._retry(obj, lambda kind: self._write(kind, obj, manager, context), context)
        return self._await(kind, obj, live, manager, context)[1]

    def delete(self, type_: str, id_: str, inputs: Values, outputs: Values, context: Context) -> None:
        """Delete an object and wait until it is gone; one that Helm's resource policy keeps is left where it is."""
        if type_ == RELEASE:
            return self._helm.delete(inputs, context)
        if kube_objects.annotation(inputs, "helm.sh/resource-policy") == "keep":
            return None
        obj = kube_objects.wire(outputs if outputs.get("metadata") else inputs)
        metadata = obj["metadata"]
        try:
            if kube_objects.is_patch(type_):
                return self._release(obj, kube_objects.field_manager(outputs, context.urn))
            kind = self._client.kind(obj["apiVersion"], obj["kind"])
            live = self._client.get(kind, metadata.get("namespace"), metadata["name"])
            if live is None:
                return None
            self._client.delete(kind, metadata.get("namespace"), metadata["name"])
            kube_await.until_gone(self._client, kind, obj, live["metadata"]["uid"], context)
        except NoKind:
            return None
        except ApiError as error:
            if error.status != 404:
                raise ProviderError(f"deleting {_title(obj)}: {error}") from None
        return None

    def _release(self, obj: Object, manager: str) -> None:
        kind, metadata = self._client.kind(obj["apiVersion"], obj["kind"]), obj["metadata"]
        if self._client.get(kind, metadata.get("namespace"), metadata["name"]) is not None:
            self._client.apply(kind, kube_objects.released(obj), manager, dry_run=False, force=False)

    def construct(self, type_: str, name: str, inputs: Values, context: Context) -> list[Child] | None:
        """Render a chart into its objects."""
        return self._helm.chart(name, inputs, context) if type_ == CHART else None

    def _is_namespaced(self, api_version: str, kind: str) -> bool:
        try:
            return self._client.kind(api_version, kind).namespaced
        except NoKind:  # a custom resource whose definition comes in the same run
            return True

    def _dry_run(self, inputs: Values, manager: str, *, new: bool) -> Object | None:
        """Return what the server says it would do, or None where it cannot know yet."""
        if has_unknown(inputs):
            return None
        obj = kube_objects.wire(inputs)
        try:
            kind, metadata = self._client.kind(obj["apiVersion"], obj["kind"]), obj["metadata"]
            if new and self._client.get(kind, metadata.get("namespace"), metadata["name"]) is not None:
                return None  # it will be replaced, or it is not ours, as `up` will say
            return self._write(kind, obj, manager)
        except NoKind:
            return None
        except ApiError as error:
            if error.status in (403, 404) or "dryRun" in str(error):  # 404: its namespace comes in the same run
                return None
            raise ProviderError(f"{_title(obj)}: {error}") from None

    def _write_new(self, kind: Kind, obj: Object, manager: str, context: Context) -> Object:
        metadata = obj["metadata"]
        live = self._client.get(kind, metadata.get("namespace"), metadata["name"])
        if live is not None and not context.adopt and not kube_objects.is_ours(live, manager):
            raise ProviderError(
                f"{_title(obj)} already exists and this stack does not manage it; delete it or give the resource "
                "another name"
            )
        return self._write(kind, obj, manager, context)

    def _write_present(self, kind: Kind, obj: Object, manager: str, context: Context) -> Object:
        metadata = obj["metadata"]
        if self._client.get(kind, metadata.get("namespace"), metadata["name"]) is None:
            raise ProviderError(f"{_title(obj)} is not there; a patch needs an object that somebody else has made")
        return self._write(kind, obj, manager, context)

    def _write(self, kind: Kind, obj: Object, manager: str, context: Context | None = None) -> Object:
        """Apply an object; without a context, only as far as to see what would come of it."""
        force = kube_objects.annotation(obj, kube_objects.PATCH_FORCE) == "true"
        return self._client.apply(kind, obj, manager, dry_run=context is None, force=force)

    def _retry(self, obj: Object, write: Callable[[Kind], Object], context: Context) -> tuple[Kind, Object]:
        """Write; while the namespace or the kind is not there (yet), and on conflicts, try again for a while."""
        begun, pause = time.monotonic(), 0.25
        while True:
            try:
                kind = self._client.kind(obj["apiVersion"], obj["kind"])
                return kind, write(kind)
            except NoKind as error:
                reason = f"{error}; is its CustomResourceDefinition installed?"
            except ApiError as error:
                reason = str(error)
                hook_starts = error.status == 500 and "failed calling webhook" in reason
                if error.status != 404 and not hook_starts:
                    hint = "; another manager owns this field: annotation pulumi.com/patchForce takes it over"
                    conflict = error.status == 409 and "conflict" in reason
                    raise ProviderError(f"{_title(obj)}: {reason}{hint if conflict else ''}") from None
            if time.monotonic() - begun > _PATIENCE or context.cancelled.wait(pause):
                raise ProviderError(f"{_title(obj)}: {reason}")
            context.report(f"trying again: {reason}")
            pause = min(pause * 2, 4)

    def _await(
        self, kind: Kind, obj: Object, live: Object, manager: str, context: Context
    ) -> tuple[str, dict[str, Any]]:
        try:
            live = kube_await.until_ready(self._client, kind, obj, live, context)
        except kube_await.NotReady as error:
            partial = kube_objects.identity(error.live), kube_objects.outputs_of(error.live, manager)
            raise ProviderError(f"{_title(obj)}: {error}", partial=partial) from None
        return kube_objects.identity(live), kube_objects.outputs_of(live, manager)


def _place(obj: Mapping[str, Any]) -> tuple[Any, Any]:
    metadata = obj.get("metadata")
    return (metadata.get("namespace"), metadata.get("name")) if isinstance(metadata, Mapping) else (None, None)


def _title(obj: Object) -> str:
    return f"{obj['kind']} {kube_objects.identity(obj)}"
