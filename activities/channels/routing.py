"""Which channels a person is reached by, in which order, and when (research §2.5)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from models.approval import Priority
from models.approval_policy import Channel
from models.calendar import seconds_of_day
from models.channel import ChannelPreference


def route(
    asked: Sequence[Channel],
    preference: ChannelPreference | None,
    priority: Priority,
    now: datetime,
    *,
    fallback_after: timedelta,
) -> list[tuple[Channel, datetime]]:
    """Plan the chain of channels for one person.

    The person's order comes first, within what the request allows; each further channel follows when the one
    before has brought no acknowledgement. What is critical goes out by all channels at once, quiet hours or
    not.

    Args:
        asked: Channels of the request, in its order. The web needs no message: its inbox shows everything.
        preference: What the person wants, if they ever said.
        priority: Of the request.
        now: From when on.
        fallback_after: Between one channel and the next.

    Returns:
        Channels and when each is due.
    """
    allowed = list(dict.fromkeys(asked))
    if preference is not None and preference.channels:
        wanted = [Channel(name) for name in preference.channels if name in allowed]
        allowed = [*wanted, *(channel for channel in allowed if channel not in wanted)]
    chain = [channel for channel in allowed if channel is not Channel.WEB]
    if priority is Priority.CRITICAL:
        return [(channel, now) for channel in chain]
    start = now if preference is None else after_quiet_hours(preference, now)
    return [(channel, start + place * fallback_after) for place, channel in enumerate(chain)]


def after_quiet_hours(preference: ChannelPreference, now: datetime) -> datetime:
    """Return ``now``, or the end of the quiet hours that it falls into."""
    if preference.quiet_from is None or preference.quiet_to is None:
        return now
    try:
        zone = ZoneInfo(preference.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return now
    begin, end = seconds_of_day(preference.quiet_from), seconds_of_day(preference.quiet_to)
    local = now.astimezone(zone)
    second = local.hour * 3600 + local.minute * 60 + local.second
    quiet = begin <= second < end if begin <= end else second >= begin or second < end
    if not quiet:
        return now
    day = local.date() + timedelta(days=1 if begin > end and second >= begin else 0)
    wake = datetime.combine(day, datetime.min.time(), zone) + timedelta(seconds=end)
    return max(now, wake.astimezone(now.tzinfo))
