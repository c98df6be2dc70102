"""Logs in to a cluster as its kubeconfig says: client certificates, tokens, login plugins, proxies.

The official library does it, but tells some failures only to a log, and those of its files in its own terms.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from kubernetes.client import ApiClient, Configuration
from kubernetes.config import ConfigException, load_incluster_config
from kubernetes.config.incluster_config import SERVICE_HOST_ENV_NAME, SERVICE_TOKEN_FILENAME
from kubernetes.config.kube_config import KubeConfigLoader, KubeConfigMerger

from cluster.deadline import within
from cluster.errors import ApiError

LOGIN_SECONDS = 60.0
"""How long a login plugin may take: it may have to ask a person."""
CONNECTIONS = 16
"""How many connections stay open for reuse."""


def log_in(kubeconfig: str | None, context: str | None, seconds: float = LOGIN_SECONDS) -> ApiClient:
    """A client of the library that is logged in.

    Args:
        kubeconfig: Path; without it what kubectl would take: `KUBECONFIG`, `~/.kube/config`, the pod's own account.
        context: Context in it; without it the current one.
        seconds: How long it may take.

    Raises:
        ApiError: The kubeconfig is not there, does not fit, or its plugin fails.
    """
    configuration = type.__call__(Configuration)
    configuration.retries = False
    configuration.connection_pool_maxsize = CONNECTIONS
    paths = _paths(kubeconfig)
    if paths:
        try:
            within(seconds, lambda: _load(paths, context, configuration))
        except TimeoutError:
            raise ApiError(
                f"the Kubernetes API cannot be logged in to: the kubeconfig's login did not end within {seconds:g} s; "
                "log in with kubectl first, or use a kubeconfig that asks nobody"
            ) from None
    elif kubeconfig is None and os.environ.get(SERVICE_HOST_ENV_NAME) and Path(SERVICE_TOKEN_FILENAME).is_file():
        try:
            load_incluster_config(configuration)
        except ConfigException as error:
            raise ApiError(f"the Kubernetes API cannot be logged in to with the pod's own account: {error}") from None
    else:
        raise ApiError(
            f"the Kubernetes API cannot be reached without a kubeconfig: {_missing(kubeconfig)} is not there; "
            "set cluster.kubeconfig to one, or KUBECONFIG"
        )
    return ApiClient(configuration)


def _named(kubeconfig: str | None) -> list[str]:
    names = [kubeconfig] if kubeconfig else (os.environ.get("KUBECONFIG") or "~/.kube/config").split(os.pathsep)
    return [str(Path(name).expanduser()) for name in names if name]


def _paths(kubeconfig: str | None) -> list[str]:
    return [path for path in _named(kubeconfig) if Path(path).is_file()]


def _missing(kubeconfig: str | None) -> str:
    return ", ".join(_named(kubeconfig))


def _load(paths: list[str], context: str | None, configuration: Any) -> None:
    where = ", ".join(paths)
    try:
        merged = KubeConfigMerger(os.pathsep.join(paths)).config
        names = [entry["name"] for entry in merged.value["contexts"]]
    except (ConfigException, OSError, yaml.YAMLError, AttributeError, TypeError, KeyError):
        raise ApiError(f"the Kubernetes API cannot be reached: {where} is no kubeconfig as kubectl reads it") from None
    chosen = context or merged.value.get("current-context")
    if chosen not in names:
        lacks = f"has no context {chosen}" if chosen else "has no current context"
        raise ApiError(
            f"the Kubernetes API cannot be reached: the kubeconfig {where} {lacks}; "
            f"set cluster.context to one of {', '.join(names) or '(it has none)'}"
        )
    with _login_failures() as failures:
        try:
            loader = KubeConfigLoader(merged, active_context=chosen, config_base_path=None)
            loader.load_and_set(configuration)
        except (ConfigException, OSError, ValueError) as error:
            raise ApiError(
                f"the Kubernetes API cannot be reached: context {chosen} of the kubeconfig {where}: {error}"
            ) from None
    if getattr(loader, "proxy", None):
        # As client-go does: NO_PROXY concerns the environment's proxies, not the kubeconfig's own.
        configuration.no_proxy = ""
    if failures:
        raise _failed_login(merged, chosen, failures[-1])


def _failed_login(merged: Any, context: str, failure: str) -> ApiError:
    """What a login plugin failed with; how to get it is the kubeconfig's to say, where it is missing."""
    user = merged["contexts"].get_with_name(context).value["context"].get("user")
    plugin = merged["users"].get_with_name(user).value["user"].get("exec") or {}
    command = plugin.get("command", "its login")
    if "No such file or directory" in failure:
        hint = str(plugin.get("installHint") or "install it, or put it on PATH").strip()
        return ApiError(
            f"the Kubernetes API cannot be logged in to: context {context} needs the program {command}, "
            f"which is not there: {hint}"
        )
    said = failure.removeprefix("exec: ").replace("\n", " ")
    return ApiError(
        f"the Kubernetes API cannot be logged in to: {command}, which context {context} runs for it, failed ({said}): "
        "log in again as your cluster's provider says"
    )


@contextmanager
def _login_failures() -> Iterator[list[str]]:
    """What the library says of a failed login: it logs it, and goes on without a login."""
    found: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        if record.module != "kube_config":
            return True
        found.append(record.getMessage())
        return False

    root = logging.getLogger()
    silent = logging.NullHandler()
    root.addFilter(keep)
    # Without any handler `logging.error` would set one up for the whole process.
    root.addHandler(silent)
    try:
        yield found
    finally:
        root.removeFilter(keep)
        root.removeHandler(silent)
