import inspect
import re

import pytest

from hospitium import errors
from hospitium.errors import ALL_ERRORS, HospitiumError, PlanError, SiteError, UpdateError


def test_every_error_class_is_in_the_list_once_and_in_the_tree():
    classes = [
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, Exception)
    ]
    assert sorted(classes, key=repr) == sorted(ALL_ERRORS, key=repr)
    assert all(issubclass(error, HospitiumError) for error in ALL_ERRORS)


def test_every_error_has_its_own_code_and_says_what_it_is():
    codes = [vars(error)["code"] for error in ALL_ERRORS]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"E[0-9]{3}", code) for code in codes)
    assert all(error.__doc__ and error.exit_status for error in ALL_ERRORS)


@pytest.mark.parametrize("count", [1, 3])
def test_a_plan_error_lists_every_problem_and_what_to_do(count):
    problems = [f"line {number}: wrong" for number in range(count)]
    error = PlanError(problems, where="plan.toml")
    lines = str(error).splitlines()
    assert lines[0] == f"plan.toml: {count} problem{'s' * (count > 1)} found. Nothing was started."
    assert lines[1:-1] == [f"  - {problem}" for problem in problems]
    assert error.problems == tuple(problems) and "hospitium plan check" in lines[-1]


def test_the_detail_of_a_site_error_is_not_in_its_text():
    error = SiteError("training diverged", detail="/data/patients/1234.dcm")
    assert str(error) == error.public == "training diverged"
    assert "1234" not in repr(error)


def test_an_update_error_carries_its_reason():
    assert UpdateError("norm", "Too long.").reason == "norm"
