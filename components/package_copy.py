"""Copies of packages that only the operator has: they go to a VM over ssh, and their content stays out of the state.

What has come there is looked into by the host's own program, by its SHA-256, before anything is installed.
"""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_command as command

from hosts.plan import Package


def package_copies(
    vm: str,
    address: str,
    connection: command.remote.ConnectionArgs,
    packages: Mapping[str, Package],
    parent: pulumi.Resource,
) -> list[pulumi.Resource]:
    """Copy every package that is a file into the home folder of the login; the host takes the one that fits it.

    Which one that is only the host knows, and an input that is not known yet ends a preview of a copy. The command
    provider copies again when the file or its name there changes, not when only the machine does: hence the trigger.
    """
    return [
        command.remote.CopyToRemote(
            f"{vm}-package-{kind}",
            connection=connection,
            source=pulumi.FileAsset(package.file),
            remote_path=package.copied,
            triggers=[address],
            opts=pulumi.ResourceOptions(parent=parent),
        )
        for kind, package in packages.items()
        if package.file is not None
    ]
