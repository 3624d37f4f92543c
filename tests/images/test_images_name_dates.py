"""The date in a file name is read as phones and programs put it there, and other numbers are none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from clip_qdrant.images.metadata.file_names import read_name_date

MOMENT = datetime(2024, 1, 31, 23, 59, 58)
DAY = datetime(2024, 1, 31)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("IMG_20240131_235958.jpg", MOMENT),
        ("DCIM/2019-05-05/IMG_20240131_235958.jpg", MOMENT),
        ("20240131_235958.jpg", MOMENT),
        ("20240131_235958(1).jpg", MOMENT),
        ("20240131235958.jpg", MOMENT),
        ("IMG20240131235958.jpg", MOMENT),
        ("PXL_20240131_235958123.jpg", MOMENT.replace(microsecond=123_000, tzinfo=UTC)),
        ("PXL_20240131_235958123.PORTRAIT.jpg", MOMENT.replace(microsecond=123_000, tzinfo=UTC)),
        ("Screenshot 2024-01-31 at 23.59.58.png", MOMENT),
        ("Screenshot 2024-01-31 at 11.59.58\u202fPM.png", MOMENT),
        ("Screen Shot 2024-01-31 at 9.05.07 AM.png", datetime(2024, 1, 31, 9, 5, 7)),
        ("Screen Shot 2024-01-31 at 12.05.07 AM.png", datetime(2024, 1, 31, 0, 5, 7)),
        ("Screenshot_20240131-235958.png", MOMENT),
        ("Screenshot_2024-01-31-23-59-58-123_com.example.png", MOMENT.replace(microsecond=123_000)),
        ("Screenshot from 2024-01-31 23-59-58.png", MOMENT),
        ("WhatsApp Image 2024-01-31 at 23.59.58.jpeg", MOMENT),
        ("signal-2024-01-31-235958.jpg", MOMENT),
        ("signal-2024-01-31-23-59-58-123.jpg", MOMENT.replace(microsecond=123_000)),
        ("photo_2024-01-31_23-59-58.jpg", MOMENT),
        ("WP_20240131_23_59_58_Pro.jpg", MOMENT),
        ("2024-01-31 23.59.58.jpg", MOMENT),
        ("2024-01-31T23:59:58.jpg", MOMENT),
        ("20240131T235958Z.jpg", MOMENT.replace(tzinfo=UTC)),
        ("2024_01_31_beach.jpg", DAY),
        ("2024-01-31 beach.jpg", DAY),
        ("2024.01.31.jpg", DAY),
        ("IMG-20240131-WA0007.jpg", DAY),
        ("20240131.jpg", DAY),
        ("20240131_1234.jpg", DAY),
        ("2024-01-31 99.99.99.jpg", DAY),
        ("https://example.org/photos/2024-01-31%20beach.jpg?v=20200202", DAY),
        ("https://example.org/photos/beach.jpg?v=20200202", None),
        ("2024-01-31/beach.jpg", None),
        ("DSC01234.jpg", None),
        ("120240131.jpg", None),
        ("202401311.jpg", None),
        ("20240230.jpg", None),
        ("2024-13-01.jpg", None),
        ("31-01-2024.jpg", None),
        ("1706745598123.jpg", None),
        ("18991231.jpg", None),
        ("२०२४-०१-३१.jpg", None),
        ("", None),
        ("/", None),
        ("2" * 100_000, None),
    ],
)  # fmt: skip
def test_the_date_in_a_name(name: str, expected: datetime | None) -> None:
    found = read_name_date(name)
    assert found == expected
    assert found is None or expected is None or found.tzinfo == expected.tzinfo
