"""The desired state of a host in, the commands that get it there out; nothing here opens a connection.

One POSIX shell program does everything on a VM (`templates/`). `configure` brings it there together with the files that
it manages, and leaves it installed, so that the other steps are short commands that carry no text of their own.
"""

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hosts.sidecar_files import SidecarFiles

_TEMPLATES = Path(__file__).parent / "templates"
_HELPER = "/usr/local/lib/istio-vm-mesh/host"
_DROP_IN = "/etc/systemd/system/istio.service.d/istio-vm-mesh.conf"


@dataclass(frozen=True, kw_only=True)
class Package:
    """The sidecar's package for one architecture."""

    url: str
    """Where the VM downloads it."""
    sha256: str
    """64 hex digits; anything else that comes from the URL is refused."""


@dataclass(frozen=True, kw_only=True)
class DesiredHost:
    """What a VM is to become."""

    vm: str
    """The VM's name, as it appears in errors."""
    files: SidecarFiles
    packages: Mapping[str, Package]
    """By Debian architecture: "amd64", "arm64". The host picks its own."""
    istiod_host: str
    """The name in istiod's certificate that the VM connects to, such as `istiod.istio-system.svc`."""
    istiod_address: str
    """The IP address behind that name, seen from the VM."""
    istiod_port: int
    address: str
    """The address that the VM registers; it must be on one of its interfaces."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a `remote.Command` gets."""

    command: str
    """Runs as root or as a user with passwordless sudo."""
    stdin: str = ""
    """Not secret."""


def configure(desired: DesiredHost) -> Step:
    """Check the host, then install the package and write the files; prints a line for each thing that it changed."""
    return Step(command=_from_stdin("configure"), stdin=render(desired))


def unconfigure(desired: DesiredHost) -> str:
    """Return the command that undoes `configure`, given the same standard input; a clean host is a success."""
    return _from_stdin("remove")


def enrol(desired: DesiredHost) -> Step:
    """Take the token from standard input, and start the sidecar if it does not run as configured.

    The command names the configuration's digest, so that it runs again when that changes.
    """
    return Step(command=f"sh {_HELPER} enrol {digest(desired)}")


def drain(desired: DesiredHost) -> str:
    """Return the command that stops the sidecar for good; one that is not there is a success.

    It names the address: a machine that has been configured under another one since is left alone.
    """
    return f"if [ -e {_HELPER} ]; then sh {_HELPER} drain {desired.address}; fi"


def confirm(desired: DesiredHost) -> Step:
    """Wait until the sidecar is ready; prints the evidence as one line of JSON."""
    return Step(command=f"sh {_HELPER} confirm {digest(desired)}")


def digest(desired: DesiredHost) -> str:
    """Return what changes whenever the sidecar has to be looked at again: its files or its package."""
    return _hash({"files": asdict(desired.files), "packages": {k: asdict(v) for k, v in desired.packages.items()}})


def render(desired: DesiredHost, *, root: str = "") -> str:
    """Return the host's program, with the files that it manages as its last lines.

    Args:
        desired: What the host is to become.
        root: A folder that stands for `/` where files are written; for tests.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["sh"] = shlex.quote
    files, port = desired.files, desired.istiod_port
    managed = {
        "/etc/istio/config/mesh": files.mesh_yaml,
        "/var/lib/istio/envoy/cluster.env": files.cluster_env,
        "/etc/certs/root-cert.pem": files.root_certificate,
        "/etc/hosts": files.hosts,
        _DROP_IN: environment.get_template(_DROP_IN.lstrip("/")).render(helper=_HELPER),
    }
    return environment.get_template(f"{_HELPER.lstrip('/')}.j2").render(
        vm=desired.vm,
        digest=digest(desired),
        restart=_hash({"mesh": files.mesh_yaml, "env": files.cluster_env, "root": files.root_certificate}),
        address=desired.address,
        istiod_host=desired.istiod_host,
        istiod_at=f"[{desired.istiod_address}]:{port}"
        if ":" in desired.istiod_address
        else f"{desired.istiod_address}:{port}",
        istiod_port=port,
        packages=sorted(desired.packages.items()),
        helper=_HELPER,
        root=root,
        content=[f"{path}: {line}" for path, text in managed.items() for line in _lines(text)],
    )


def _from_stdin(action: str) -> str:
    """Return the command that runs the program on its standard input, which removes its temporary file itself."""
    return f'f=$(mktemp -t istio-vm-mesh.XXXXXX) && cat >"$f" && sh "$f" {action}'


def _lines(text: str) -> list[str]:
    """Return the lines of a text file; a last newline that is missing is added by the shell."""
    return text.removesuffix("\n").split("\n")


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
