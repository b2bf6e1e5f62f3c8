"""What of a CanopyWave account can be looked at without renting.

Whether the project has a network in a region, and whether a payment method is set, shows at launch
only; both refusals have their own hint there.
"""

from __future__ import annotations

from towline import errors
from towline.core.instance import parse_tag
from towline.ports import Finding
from towline.providers.canopywave_project import Project

_UNKNOWN_COMMENT = "without it a machine's SSH key can't be attested: towline then trusts the first one that it sees"


async def findings(project: Project) -> list[Finding]:
    """Key, project, regions, keys, addresses and billing, in the order in which they are needed."""
    visible = await project.visible()
    name = await project.name()
    first = [
        Finding("key", f"the API key works and sees {len(visible)} projects"),
        _named(name, visible),
    ]
    regions = await project.chosen_regions()
    return [
        *first,
        _places(regions, await project.regions()),
        await _keys(project, regions),
        await _addresses(project, regions),
        await _billing(project),
    ]


def _named(name: str, visible: list[str]) -> Finding:
    fix = None
    if name not in visible:
        fix = f"providers.canopywave.project must be one of: {', '.join(visible)}"
    return Finding("project", f"project {name}", fix)


def _places(regions: list[str], known: list[str]) -> Finding:
    fix = None if regions else "ask CanopyWave's support for a region"
    return Finding("regions", f"renting in {', '.join(regions)}, of {len(known)} regions", fix)


async def _keys(project: Project, regions: list[str]) -> Finding:
    """A key of ours must still carry its comment, for machines are known by it."""
    count, bare = 0, 0
    for region in regions:
        for name, public_key in (await project.keys(region)).items():
            ours = parse_tag(name) is not None
            count += ours
            bare += ours and len(public_key.split()) < 3  # noqa: PLR2004 - kind, key, comment
    text = f"SSH keys can be read; {count} are of towline's runs"
    if bare:
        return Finding("ssh-keys", f"{text}, {bare} of them lost their comment", _UNKNOWN_COMMENT)
    return Finding("ssh-keys", text)


async def _addresses(project: Project, regions: list[str]) -> Finding:
    listed = [row for region in regions for row in await project.ips(region)]
    idle = sum(not row.get("server") for row in listed)
    return Finding("addresses", f"{len(listed)} public addresses, {idle} of them serve no instance")


async def _billing(project: Project) -> Finding:
    """The call is marked as unfinished by the vendor: its absence says nothing."""
    try:
        await project.get("/billing")
    except (errors.NotFound, errors.ProviderUnavailable, errors.ProviderReplyError):
        text = "the API tells nothing of billing"
    else:
        text = "billing can be read"
    return Finding("billing", f"{text}; a missing payment method shows at launch only")
