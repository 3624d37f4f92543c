"""The date in a file name, as phones and programs put it there: the last choice for a photo that says nothing itself.

`IMG_20240131_235959.jpg`, `PXL_20240131_225959123.jpg`, `Screenshot 2024-01-31 at 23.59.59.png`, `2024-01-31 a.jpg`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from urllib.parse import unquote

__all__ = ["read_name_date"]

_DAY = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_. ]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])", re.ASCII)
_TIME = re.compile(
    r"(?:[-_. ]?T|[-_., ]+at[-_ ]+|[-_., ]*)([01]?\d|2[0-3])([-_.:]?)([0-5]\d)\2([0-5]\d)(?:[-.,_]?(\d{3}))?(?!\d)(Z)?"
    "(?:[ \u00a0\u202f]?([AaPp])[Mm])?",
    re.ASCII,
)
_LONGEST = 255  # characters, as most file systems take


def read_name_date(name: str) -> datetime | None:
    """The first date in the last part of a path or a URL, with the time behind it; None where there is none.

    It has no zone, but for a `Z` behind it and for the names of Google's phones (`PXL_…`), which are in UTC. A day
    alone is its midnight.
    """
    if "://" in name:
        name = unquote(re.split("[?#]", name, maxsplit=1)[0])
    name = name.rpartition("/")[2][:_LONGEST]
    for match in _DAY.finditer(name):
        try:
            day = datetime(int(match[1]), int(match[3]), int(match[4]))
        except ValueError:
            continue
        time = _TIME.match(name, match.end())
        if time is None:
            if name[match.end() : match.end() + 1].isdigit():  # a longer number
                continue
            return day
        hour = int(time[1])
        if time[7]:
            hour = hour % 12 + (12 if time[7] in "Pp" else 0)
        moment = day.replace(hour=hour, minute=int(time[3]), second=int(time[4]), microsecond=int(time[5] or 0) * 1000)
        return moment.replace(tzinfo=UTC) if time[6] or name.startswith("PXL_") else moment
    return None
