"""Laws of settings: precedence, clear refusals, and secrets that never show."""

from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

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


# -- connections by parts ---------------------------------------------------------------------------------------------

ODD = "p@ss:w/rd?#%&+ ä"
PARTS = {"KIND": "mysql", "HOST": "db.example.org", "USER": "re@der", "PASSWORD": ODD, "DATABASE": "a/b c"}


def variables(parts: dict[str, str], name: str = "SHOP") -> dict[str, str]:
    return {f"PENSTOCK_CONNECTIONS__{name}__{part}": value for part, value in parts.items()}


def test_parts_become_one_url_in_which_nothing_is_lost() -> None:
    given = variables(
        {**PARTS, "PORT": "3307", "OPTIONS__SSL_MODE": "verify_identity", "OPTIONS__SSL_CA": "/a b&c.pem"}
    )
    settings = Settings.load(given)
    url = urlsplit(settings.connection("shop").get_secret_value())
    assert (url.scheme, url.hostname, url.port) == ("mysql", "db.example.org", 3307)
    assert [unquote(part or "") for part in (url.username, url.password, url.path[1:])] == ["re@der", ODD, "a/b c"]
    assert parse_qs(url.query) == {"ssl_mode": ["verify_identity"], "ssl_ca": ["/a b&c.pem"]}
    assert ODD not in repr(settings)
    assert quote(ODD, safe="") not in repr(settings)


def test_parts_of_the_environment_complete_and_override_those_of_the_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from the file\n")
    config = tmp_path / "penstock.toml"
    config.write_text(
        '[connections.shop]\nkind = "postgresql"\nhost = "::1"\nport = 5433\nuser = "reader"\ndatabase = "shop"\n'
        f'password_file = "{secret}"\noptions = {{sslmode = "verify-full", sslrootcert = "/ca.pem"}}\n'
        '[connections.other]\nkind = "mysql"\nhost = "h"\nuser = "u"\ndatabase = "d"\n'
    )
    environment = {"PENSTOCK_CONFIG": str(config)}
    assert Settings.load(environment).connection("shop").get_secret_value() == (
        "postgresql://reader:from%20the%20file@[::1]:5433/shop?sslmode=verify-full&sslrootcert=%2Fca.pem"
    )
    more = variables({"PASSWORD": "x", "OPTIONS__SSLMODE": "require", "HOST": "db2"})
    assert Settings.load({**environment, **more}).connection("shop").get_secret_value() == (
        "postgresql://reader:x@db2:5433/shop?sslmode=require&sslrootcert=%2Fca.pem"
    )
    assert Settings.load(environment).connection("other").get_secret_value() == "mysql://u@h/d"
    url = {"PENSTOCK_CONNECTIONS__SHOP": URL}
    assert Settings.load({**environment, **url}).connection("shop").get_secret_value() == URL


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"PASSWORD": SECRET}, "lacks kind, host, user, database"),
        ({**PARTS, "HOST": f"u:{SECRET}@db"}, "host: Value error, no host name or address"),
        ({**PARTS, "PORT": SECRET}, "port: "),
        ({**PARTS, "PORT": "70000"}, "port: "),
        ({**PARTS, "KIND": SECRET}, "kind: "),
        ({**PARTS, "PASSWORD_FILE": "/nowhere"}, "both password and password_file"),
        (
            {"KIND": "mysql", "HOST": "h", "USER": "u", "DATABASE": "d", "PASSWORD_FILE": "/nowhere"},
            "/nowhere: No such",
        ),
        ({**PARTS, "HOTS": SECRET}, "SHOP__HOTS names no part"),
    ],
)
def test_a_wrong_part_is_refused_by_its_name_and_never_with_a_value(parts: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.load(variables(parts))
    assert says in str(refused.value)
    assert "Remedy: " in str(refused.value)
    assert SECRET not in str(refused.value)
    assert ODD not in str(refused.value)


def test_a_connection_is_given_one_way() -> None:
    with pytest.raises(SettingsError, match="'shop' is given both as a URL and by parts") as refused:
        Settings.load({"PENSTOCK_CONNECTIONS__SHOP": URL, **variables(PARTS)})
    assert SECRET not in str(refused.value)


def test_a_name_with_two_underscores_is_still_a_connection_of_its_own() -> None:
    settings = Settings.load({"PENSTOCK_CONNECTIONS__SHOP__NORTH": URL, **variables(PARTS, "SHOP__SOUTH")})
    assert settings.connection("shop__north").get_secret_value() == URL
    assert settings.connection("shop__south").get_secret_value().startswith("mysql://re%40der:")
