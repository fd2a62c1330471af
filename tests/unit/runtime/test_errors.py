"""Errors of a TaskGroup leave it as themselves, unless an unexpected one is among them."""

import pytest

from runtime.errors import ConfigurationError, StartError, VoltwireError, innermost, ungrouped


def test_the_first_expected_error_leaves_its_groups() -> None:
    first = StartError("the port is in use")
    with pytest.raises(StartError) as raised, ungrouped(VoltwireError):
        raise ExceptionGroup("", [ExceptionGroup("", [first]), ConfigurationError("later")])
    assert raised.value is first


def test_a_group_with_an_unexpected_error_stays_whole() -> None:
    group = ExceptionGroup("", [StartError("the port is in use"), ZeroDivisionError()])
    with pytest.raises(ExceptionGroup) as raised, ungrouped(VoltwireError):
        raise group
    assert raised.value is group


def test_an_error_outside_a_group_is_left_alone() -> None:
    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError), ungrouped(VoltwireError):
        raise error
    assert innermost(error) is error
