"""The shares of the tests that run on the lowest and on the newest JAX."""

import pytest
from shares import share


NAMES = [f"a.py::f[{case}]" for case in ("1", "2-x", "3")]
NAMES += ["a.py::g", "b.py::f[1]", "b.py::h[1]", "b.py::h[2]"]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_shares_are_all_cases_and_each_has_every_function(count):
    shares = [share(NAMES, f"{k}/{count}") for k in range(1, count + 1)]
    assert set().union(*shares) == {*NAMES}
    for chosen in shares:
        assert {name.partition("[")[0] for name in chosen} == {n.partition("[")[0] for n in NAMES}


@pytest.mark.parametrize("part", ["1/2", "2/2"])
def test_a_share_has_all_values_of_parameters(part):
    names = [f"a.py::f[{first}-{last}]" for first in range(9) for last in ("x", "y")]
    chosen = share(names, part)
    for value in ("-x]", "-y]"):
        assert 3 <= sum(name.endswith(value) for name in chosen) <= 6


def test_a_share_does_not_depend_on_the_order():
    assert share(NAMES, "1/2") == share(reversed(NAMES), "1/2")
    assert len(share(NAMES, "1/2")) < len(NAMES) > len(share(NAMES, "2/2"))


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "a/b", "1/2/3"])
def test_other_shares_are_refused(part):
    with pytest.raises(ValueError, match="`--share` must be K/N"):
        share(NAMES, part)
