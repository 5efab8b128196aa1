"""The law of the one service that may be missing: continuous integration must have it, others skip and say why."""

from __future__ import annotations

import pytest

from tests.mariadb_server import MISSING, require


def test_a_missing_mariadb_fails_in_continuous_integration_and_is_skipped_elsewhere() -> None:
    with pytest.raises(pytest.fail.Exception, match="apt-get install mariadb-server"):
        require(None, in_ci=True)
    with pytest.raises(pytest.skip.Exception, match="apt-get install mariadb-server"):
        require(None, in_ci=False)
    assert "apt-get install mariadb-server" in MISSING
    require("/usr/sbin/mariadbd", in_ci=True)
