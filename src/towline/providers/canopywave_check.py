"""What of a CanopyWave account can be looked at without renting.

Whether the project has a network in a region, and whether a payment method is set, shows at launch
only; both refusals have their own hint there.
"""

from __future__ import annotations

from collections.abc import Awaitable

from towline import errors
from towline.core.instance import parse_tag
from towline.ports import Finding
from towline.providers.canopywave_offers import Catalogue
from towline.providers.canopywave_project import Project

_NO_COMMENT = (
    "without it an instance's SSH key can't be attested: towline then trusts the first that it sees"
)


async def basics(project: Project) -> list[Finding]:
    """Key and project: while one of them has a fix, nothing else can be asked."""
    visible = await project.visible()
    return [
        Finding("key", f"the API key works and sees {len(visible)} projects"),
        await _named(project, visible),
    ]


async def details(project: Project, catalogue: Catalogue) -> list[Finding]:
    """What is there and what may be rented; one that fails does not hide the others."""
    return [
        await _tried("regions", _regions(project)),
        await _tried("ssh-keys", _keys(project)),
        await _tried("addresses", _addresses(project)),
        await _tried("billing", _billing(project)),
        await _tried("offers", catalogue.stock()),
        catalogue.prices(),
    ]


async def _tried(name: str, question: Awaitable[Finding]) -> Finding:
    try:
        return await question
    except errors.TowlineError as error:
        return Finding(name, error.message, error.hint or "try again later")


async def _named(project: Project, visible: list[str]) -> Finding:
    try:
        name = await project.name()
    except errors.TowlineError as error:
        return Finding("project", error.message, error.hint)
    if name in visible:
        return Finding("project", f"project {name}")
    choice = ", ".join(visible) or "none"
    fix = f"set providers.canopywave.project to one that the key sees: {choice}"
    return Finding("project", f"the key does not see project {name}", fix)


async def _regions(project: Project) -> Finding:
    chosen, listed = await project.chosen_regions(), await project.listed_regions()
    text = f"renting in {', '.join(chosen) or 'none'}"
    if listed is None:
        return Finding("regions", f"{text}; the API does not tell which there are")
    unknown = not set(chosen) <= set(listed)
    fix = f"set providers.canopywave.region to one of: {', '.join(listed)}"
    return Finding("regions", f"{text}, of {len(listed)}", fix if unknown or not chosen else None)


async def _keys(project: Project) -> Finding:
    """A key of ours must still carry its comment, for machines are known by it."""
    regions = await project.chosen_regions()
    ours = [
        public_key
        for region in regions
        for name, public_key in (await project.keys(region)).items()
        if parse_tag(name) is not None
    ]
    bare = sum(len(one.split()) < 3 for one in ours)  # noqa: PLR2004 - kind, key, comment
    text = f"SSH keys can be read; {len(ours)} are of towline's runs"
    if bare:
        return Finding("ssh-keys", f"{text}, {bare} of them lost their comment", _NO_COMMENT)
    return Finding("ssh-keys", text)


async def _addresses(project: Project) -> Finding:
    regions = await project.chosen_regions()
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
    text += "; a missing payment method shows at launch only"
    return Finding("billing", f"{text}. A client's author reports 24 h charged in advance")
