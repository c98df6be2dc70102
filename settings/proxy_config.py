"""What must hold for ProxyConfig, of the mesh or a workload: Istio reads it, and the shell that starts a sidecar."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hosts.proto_json import apply
from hosts.proxy_config import PROXY_CONFIG
from settings.problems import Problem, join


def check_proxy_config(config: Any, *path: str | int) -> Iterator[Problem]:
    """Yield what ProxyConfig cannot hold, and metadata that the shell cannot take, which reads it as variables."""
    if config is None:
        return
    if not isinstance(config, Mapping):
        yield Problem(path=join(*path), what="not a mapping", got=config, right="fields of ProxyConfig")
        return
    metadata = config.get("proxyMetadata")
    for key, value in metadata.items() if isinstance(metadata, Mapping) else ():
        where = join(*path, "proxyMetadata", str(key))
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(key)):
            yield Problem(path=where, what="not a variable's name", right="letters, digits and '_', no digit first")
        elif "\0" in str(value):
            yield Problem(path=where, what="holds a NUL character", right="text without one")
    for name, value in config.items():
        try:
            apply(PROXY_CONFIG, {}, {name: value})
        except ValueError as error:
            field, _, what = str(error).partition(": ")
            # The error itself repeats the value.
            what = what.rpartition(" (got ")[0]
            yield Problem(path=f"{join(*path)}.{field}", what=what, right="what ProxyConfig takes there")
