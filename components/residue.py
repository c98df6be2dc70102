"""What Istio leaves in a cluster when its charts are gone, and how that goes when the stack is destroyed.

istiod writes its root certificate into every namespace and never takes it back; Helm keeps Istio's CRDs, since every
object of these kinds goes with them.
"""

from __future__ import annotations

import pulumi
import pulumi_command as command

from components.kubectl import ClusterAccess, kubectl
from components.values import BASE_RELEASE

CERTIFICATE_LABEL = "istio.io/config=true"
"""Label of the ConfigMaps that istiod writes into every namespace (pilot/pkg/serviceregistry/kube/controller)."""
CRD_SECONDS = 60
"""How long the CRDs may take to go."""


def take_away(access: ClusterAccess, *, crds: bool) -> str:
    """A script that removes what an uninstalled Istio leaves behind; it fails where that would take others' objects.

    Args:
        access: The cluster.
        crds: Whether the CRDs of this stack's release go, too.
    """
    of_release = f'@.metadata.annotations.meta\\.helm\\.sh/release-name=="{BASE_RELEASE}"'
    names = f'{{range .items[?({of_release})]}}{{.metadata.name}}{{" "}}{{end}}'
    objects = '{range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name}{"\\n"}{end}'
    everywhere = "--all-namespaces"
    lines = [
        # Another istiod, of another stack or revision, still uses them.
        f"istiod=$({kubectl(access, 'get', 'pods', everywhere, '--selector=app=istiod', '-o=name')}) || exit 1",
        f'[ -n "$istiod" ] || '
        f"{kubectl(access, 'delete', 'configmaps', everywhere, f'--selector={CERTIFICATE_LABEL}')} || exit 1",
    ]
    if crds:
        lines += [
            f"crds=$({kubectl(access, 'get', 'crds', f'-o=jsonpath={names}')}) || exit 1",
            '[ -n "$crds" ] || exit 0',
            'kinds=$(printf %s "${crds% }" | tr " " ,)',
            f'left=$({kubectl(access, "get", everywhere, f"-o=jsonpath={objects}")} "$kinds") || exit 1',
            'if [ -n "$left" ]; then',
            '  printf "istio.removeCrds: these objects are not of this stack and would go with the CRDs; delete them, '
            'then destroy again:\\n%s\\n" "$left" >&2',
            "  exit 1",
            "fi",
            f"{kubectl(access, 'delete', 'crds', '--ignore-not-found', f'--timeout={CRD_SECONDS}s')} $crds",
        ]
    return "\n".join(lines)


def residue(
    name: str, access: ClusterAccess, *, crds: bool, opts: pulumi.ResourceOptions | None = None
) -> command.local.Command:
    """A command that does nothing until the stack goes, and then what `take_away` says.

    Whatever puts Istio into the cluster depends on it, so that it runs after that has gone.
    """
    return command.local.Command(
        name,
        create=":",
        delete=take_away(access, crds=crds),
        logging=command.local.Logging.NONE,
        add_previous_output_in_env=False,
        opts=opts,
    )
