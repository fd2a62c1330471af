"""A channel as a caller writes it."""

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

CHANNEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
URL_CHARS_MAX, SECRET_CHARS_MAX = 2000, 200

_is_channel_name = re.compile(CHANNEL_NAME).fullmatch

ChannelName = Annotated[str, StringConstraints(pattern=CHANNEL_NAME)]
ChannelUrl = Annotated[
    str,
    Field(
        min_length=1,
        max_length=URL_CHARS_MAX,
        description="https://… for a signed webhook, or an address that Apprise knows, such as"
        " mailtos://user:password@example.org?to=you@example.org or ntfys://ntfy.sh/your-topic."
        " It is never shown again.",
    ),
]
WebhookSecret = Annotated[
    str,
    Field(
        min_length=1,
        max_length=SECRET_CHARS_MAX,
        description="The secret of a webhook: whsec_ and 24 to 64 bytes in Base64. It is never shown again."
        " A new webhook without one gets one, which the response shows.",
    ),
]


def is_channel_name(text: str) -> bool:
    return _is_channel_name(text) is not None


class ChannelBody(BaseModel):
    """A change of a channel; what is absent stays as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ChannelName | None = Field(None, description="If given, the same as in the path")
    url: ChannelUrl | None = None
    secret: WebhookSecret | None = None
    silent: Annotated[bool, Field(strict=True)] | None = Field(
        None, description="Whether it also gets the devices that fall silent; at first false"
    )


class NewChannelBody(ChannelBody):
    name: ChannelName
    url: ChannelUrl
