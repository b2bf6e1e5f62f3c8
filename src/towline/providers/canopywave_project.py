"""One CanopyWave project: its name, its regions, and the calls that need them.

Each call but GET /projects wants the project and most want a region: in the query of GET and
DELETE, in the body of POST.
"""

from __future__ import annotations

from typing import Any

from towline import errors
from towline.providers.account import Account
from towline.providers.canopywave_reading import data_of, names
from towline.providers.http import Rule, api_of
from towline.providers.pages import require_end
from towline.providers.parts import ident, need, rows, text

BASE_URL = "https://cloud-api.canopywave.io/api/v1"
CONSOLE = "https://cloud.canopywave.io"
_SETTING = "providers.canopywave"
#: Only the words are known, of no message the status. What is refused for money or for want of a
#: network can't have been started, whatever the status; a 5xx that says "no valid host" can: it
#: leaves an instance in state error.
_RULES = (
    Rule(
        r"error decoding token",
        errors.ProviderAuthError,
        "the key seems to hold pasted white space or to be cut; `towline login canopywave` stores "
        "it afresh",
    ),
    Rule(r"default payment method", errors.PaymentNeeded),
    Rule(r"(?s)^4.*insufficient (funds|balance|credit)", errors.PaymentNeeded),
    # the words of what is wrong with the question, and of no thing that was asked for
    Rule(
        r"^404 .*\b(project|region)\b(?! network)",
        errors.ProviderError,
        f"check {_SETTING}.project and region",
    ),
    Rule(
        r"project network not found",
        errors.ProviderError,
        f"make the project's network in that region first, in the console at {CONSOLE}; if there "
        "is one, the key may lack the right to see it",
    ),
    Rule(r"(?s)^4(?!29).*quota", errors.QuotaExceeded),
    Rule(
        r"(?s)^4(?!29).*(no valid host|not enough (hosts|capacity)|(insufficient|no) capacity"
        r"|out of (capacity|stock)|sold out|no more ip addresses)",
        errors.NoCapacity,
    ),
)


class Project:
    """The project that an account's settings name, or its only one."""

    def __init__(self, account: Account) -> None:
        key = "".join(account.key().split())  # one pasted with line ends is refused as malformed
        self._name = account.text("project", "") or None
        self.region = account.text("region", "") or None  # the one in the settings
        self._api = api_of(account, BASE_URL, lambda: {"Authorization": f"Bearer {key}"}, _RULES)

    async def visible(self) -> list[str]:
        """Names of the projects that the key may use."""
        return names(data_of(await self._api.get("/projects")))

    async def name(self) -> str:
        """The project's name; asked once.

        Raises:
            SpecError: There are several, and no setting chooses.
            ProviderError: There is none.
        """
        if self._name is None:
            found = await self.visible()
            if not found:
                hint = f"make a project in the console at {CONSOLE}, or a key with a right to one"
                raise errors.ProviderError("the key sees no project", hint=hint)
            if len(found) > 1:
                raise errors.SpecError(
                    f"the key sees several projects: {', '.join(sorted(found))}",
                    hint=f"choose one of them: {_SETTING}.project in config.yaml",
                )
            self._name = found[0]
        return self._name

    async def listed_regions(self) -> list[str] | None:
        """The regions that the API lists; None where it lacks the call, which no page names."""
        try:
            return names(await self.get("/regions"))
        except (errors.NotFound, errors.ProviderReplyError):
            return None

    async def regions(self) -> list[str]:
        """Every region of the project, the one in the settings included.

        Raises:
            ProviderError: The API does not tell, and no setting does.
            ProviderReplyError: It tells nothing that can be read.
        """
        try:
            found = await self.listed_regions()
        except errors.ProviderError:
            if self.region is None:
                raise
            found = None  # no page names the call: what is set needs no word of it
        if found is None and self.region is None:
            hint = f"set {_SETTING}.region in config.yaml"
            raise errors.ProviderReplyError("canopywave lists no regions", hint=hint)
        return sorted({*(found or []), *([self.region] if self.region else [])})

    async def chosen_regions(self) -> list[str]:
        """Where instances may be rented: the setting, else every region."""
        return [self.region] if self.region else await self.regions()

    # -- calls ----------------------------------------------------------------------------------

    async def get(self, path: str, region: str | None = None) -> Any:
        """Read something of the project; what is in the answer's envelope."""
        return data_of(await self._api.get(path, await self._where(region)))

    async def get_once(self, path: str, region: str, **more: str) -> Any:
        """Read something that is not worth asking for twice."""
        where = await self._where(region)
        return data_of(await self._api.send("GET", path, params={**where, **more}))

    async def post(self, path: str, region: str, **more: str) -> Any:
        """Do something in a region; what is in the answer's envelope."""
        return data_of(await self._api.send("POST", path, {**await self._where(region), **more}))

    async def delete(self, path: str, region: str) -> bool:
        """Remove something in a region; what is gone already is no error. Whether it was there."""
        return await self._api.remove(path, params=await self._where(region))

    async def _where(self, region: str | None) -> dict[str, str]:
        where = {"project": await self.name()}
        return where if region is None else {**where, "region": region}

    # -- what the project holds -----------------------------------------------------------------

    async def instances(self) -> list[dict[str, Any]]:
        """Rows of all instances in all regions."""
        return await self._rows("/instances")

    async def keys(self, region: str) -> dict[str, str]:
        """Public keys of a region by name."""
        listed = await self._rows("/ssh-keys", region)
        pairs = [need(one, "keypair", kind=dict) for one in listed]
        return {need(one, "name", kind=str): text(one, "public_key") for one in pairs}

    async def ips(self, region: str) -> list[dict[str, Any]]:
        """Rows of a region's public addresses."""
        listed = await self._rows("/ips", region)
        for row in listed:
            row["id"] = ident(row, "id")
            text(row, "server")
        return listed

    async def _rows(self, path: str, region: str | None = None) -> list[dict[str, Any]]:
        """A list to its end; null is none."""
        answer = await self._api.get(path, await self._where(region))
        found = rows(data_of(answer))
        require_end(answer, len(found))
        return found
