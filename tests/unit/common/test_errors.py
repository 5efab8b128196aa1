"""Laws of errors: one root, a remedy in the message, an exit code by class, whole after a process boundary."""

import pickle

import pytest

from common import errors

ALL = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PenstockError)]


def test_every_error_says_where_and_ends_with_the_remedy() -> None:
    error = errors.GateRefused("It broke.", source="shop", table="orders", interval="2013-01-01", remedy="mend it")
    assert str(error) == "It broke. [source=shop table=orders interval=2013-01-01] Remedy: mend it"


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_survives_a_process_boundary(kind: type[errors.PenstockError]) -> None:
    error = pickle.loads(pickle.dumps(kind("It broke.", table="orders", remedy="mend it")))  # noqa: S301
    assert (type(error), str(error), error.table) == (kind, "It broke. [table=orders] Remedy: mend it", "orders")


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_an_error_s_class_alone_gives_exit_code_and_retry(kind: type[errors.PenstockError]) -> None:
    expected = 1 if issubclass(kind, errors.DataRejected) else 2 if issubclass(kind, errors.UsageError) else 3
    assert kind.exit_code == expected
    assert kind.retryable == issubclass(kind, errors.TransientError)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_the_tree_in_the_module_s_docstring_names_every_error(kind: type[errors.PenstockError]) -> None:
    assert kind.__name__ in (errors.__doc__ or "")
