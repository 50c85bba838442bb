"""What a test says about the result of a command."""


def assert_refused(result, *words):
    code, out, err = result
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    for word in words:
        assert word in err
