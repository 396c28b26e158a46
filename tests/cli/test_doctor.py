"""`dsla.cli.doctor`: a line a requirement, and what to do about one that is not met."""

from dsla.cli.doctor import MODULES, check


def test_every_line_is_ok_here(capsys):
    assert check() is True
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("OK ") for line in lines)
    assert [line.split()[1] for line in lines[1 : 1 + len(MODULES)]] == list(MODULES)


def test_a_module_that_does_not_load_fails_the_check_and_the_others_are_still_looked_at(capsys):
    assert check(("json", "dsla.no_such_module", "numpy")) is False
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["OK", "FAIL", "OK"]
    assert "no_such_module" in lines[2]
    assert "reinstall" in lines[2]
