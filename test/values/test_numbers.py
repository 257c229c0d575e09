import argparse

import pytest

from espnet_tse_ser.values.numbers import Number


@pytest.mark.parametrize("value", [2, 2.0, "2", "2.0", "2e0", " 2 "])
def test_whole_numbers_come_in_every_writing(value):
    number = Number(1, whole=True)(value)
    assert number == 2 and type(number) is int


@pytest.mark.parametrize(
    "value", [True, None, "", "two", "nan", float("inf"), "1e999", "1_0", "\u0663", [1]]
)
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="expected a number, got"):
        Number()(value)


@pytest.mark.parametrize("value", [2.5, "2.5", 0, -1, 9])
def test_what_is_out_of_the_range_is_refused(value):
    with pytest.raises(ValueError, match="a whole number of 1 or more and of 8 or less"):
        Number(1, 8, whole=True)(value)


def test_open_bounds():
    share = Number(0, 1, above=True, below=True)
    assert share(0.5) == 0.5
    for value in (0, 1, "1.0"):
        with pytest.raises(ValueError, match="a number above 0 and below 1"):
            share(value)


def test_an_int_beyond_floats_is_refused():
    with pytest.raises(ValueError):
        Number()(10**400)


def test_an_option_names_itself_and_the_value(capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument("--fs", type=Number(1, whole=True).option)
    assert parser.parse_args(["--fs", "8e3"]).fs == 8000
    with pytest.raises(SystemExit):
        parser.parse_args(["--fs", "0"])
    assert "--fs: expected a whole number of 1 or more, got '0'" in capsys.readouterr().err
