"""How the command line refuses."""


def assert_refused(result, *expected):
    code, out, err = result
    assert code == 2
    assert out == ""
    assert err.startswith("ufm-fast: ")
    assert err.count("\n") == 1
    for text in expected:
        assert text in err
