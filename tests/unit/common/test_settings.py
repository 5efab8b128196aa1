"""Laws of settings: precedence, clear refusals, and secrets that never show."""

from pathlib import Path

import pytest

from common.errors import SettingsError
from common.settings import Settings

SECRET = "s3cr3t-canary"
URL = f"postgresql://reader:{SECRET}@db.example:5432/shop"


def test_the_environment_wins_over_the_file_and_an_argument_over_both(tmp_path: Path) -> None:
    config = tmp_path / "penstock.toml"
    config.write_text('memory_limit_mb = 300\nthreads = 3\n[connections]\nshop = "postgresql://file/x"\n')
    environment = {
        "PENSTOCK_CONFIG": str(config),
        "PENSTOCK_MEMORY_LIMIT_MB": "400",
        "PENSTOCK_CONNECTIONS__SHOP": URL,
    }
    settings = Settings.load(environment, threads=5)
    assert (settings.memory_limit_mb, settings.threads) == (400, 5)
    assert settings.connection("shop").get_secret_value() == URL


def test_a_secret_shows_in_no_text_form_of_the_settings() -> None:
    settings = Settings.load({"PENSTOCK_CONNECTIONS__SHOP": URL, "PENSTOCK_CATALOG_URI": URL})
    for text in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.connection("shop"))):
        assert SECRET not in text


def test_an_unknown_connection_is_refused_with_every_place_that_was_tried(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.load({}, home=tmp_path).connection("warehouse_db")
    for place in ("PENSTOCK_CONNECTIONS__WAREHOUSE_DB", "penstock.toml", str(tmp_path)):
        assert place in str(refused.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [("memory_limit = 3\n", "memory_limit"), ("threads = 0\n", "threads"), ("threads = \n", "TOML")],
)
def test_a_wrong_file_is_refused_by_the_name_of_the_setting(tmp_path: Path, text: str, named: str) -> None:
    config = tmp_path / "penstock.toml"
    config.write_text(text)
    with pytest.raises(SettingsError, match=named):
        Settings.load({"PENSTOCK_CONFIG": str(config)})


def test_a_refused_setting_does_not_repeat_its_value() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.load({"PENSTOCK_THREADS": SECRET})
    assert SECRET not in str(refused.value)


def test_settings_cannot_be_changed_after_they_are_resolved() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.load({}).threads = 9  # type: ignore[misc]


def test_the_example_for_production_is_a_valid_configuration() -> None:
    example = Path(__file__).parents[3] / "deploy" / "penstock.example.toml"
    settings = Settings.load({"PENSTOCK_CONFIG": str(example)})
    assert settings.lake_uri == "s3://analytics-lake/penstock"
