"""Laws of routes: the file and the environment together, the environment first, and no URL in sight."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import SettingsError
from common.settings import Settings

FILE = """\
notify_quiet_hours = "22:00-07:00 Europe/Berlin"
[notify.oncall]
url = "slack://secret-of-the-file"
severities = ["critical"]
"""


def load(folder: Path, text: str = FILE, **variables: str) -> Settings:
    path = folder / "penstock.toml"
    path.write_text(text)
    return Settings.load({"PENSTOCK_CONFIG": str(path), **variables})


def test_variables_win_over_the_file_key_by_key_and_may_name_routes_of_their_own(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        PENSTOCK_NOTIFY__ONCALL__URL="slack://secret-of-the-environment",
        PENSTOCK_NOTIFY__SHOP__URL="json://secret-of-the-shop",
        PENSTOCK_NOTIFY__SHOP__OWNERS="ada@shop.example, bob@shop.example",
    )
    oncall, shop = settings.notify["oncall"], settings.notify["shop"]
    assert oncall.url.get_secret_value() == "slack://secret-of-the-environment"
    assert oncall.severities == ("critical",)
    assert shop.owners == ("ada@shop.example", "bob@shop.example")
    assert "secret-of" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[notify.oncall]\nseverities = ['critical']\n", "notify.oncall.url"),
        ("[notify.oncall]\nurl = 'slack://secret'\nseverities = ['loud']\n", "notify.oncall.severities"),
        ("[notify.oncall]\nurl = 'slack://secret'\nchannel = 'x'\n", "notify.oncall.channel"),
        ("[notify.oncall]\nurl = 'slack://secret'\nquiet_hours = '22-7'\n", "notify.oncall.quiet_hours"),
        ("[notify]\noncall = 'slack://secret'\n", "notify.oncall"),
        ("notify = 'slack://secret'\n", "notify"),
        ("notify_quiet_hours = '07:00-07:00'\n", "notify_quiet_hours"),
        ("notify_quiet_hours = '07:00-08:00 Atlantis/Center'\n", "notify_quiet_hours"),
    ],
)
def test_what_is_wrong_with_a_route_is_named_without_its_url(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(tmp_path, text)
    assert named in str(refused.value)
    assert "secret" not in str(refused.value)
