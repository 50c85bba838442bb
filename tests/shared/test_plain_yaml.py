"""YAML that anybody may have written."""

import pytest
import yaml

from shared import plain_yaml

DOUBLED = "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))])


def test_plain_values_are_read():
    text = "a: 1\nb: [1.5, true, null]\nc: &name 'x * y'\nd: *name\n"
    assert plain_yaml.safe_load(text) == {
        "a": 1,
        "b": [1.5, True, None],
        "c": "x * y",
        "d": "x * y",
    }


def test_stars_are_no_references():
    assert plain_yaml.safe_load(f"pattern: '{'*' * 50}'") == {"pattern": "*" * 50}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DOUBLED, "more than 10 references"),
        ("[" * 1000, "nested too deep"),
        ("a: 2020-13-45", "month must be in"),
        ("{[1]: 2}", "unhashable"),
        ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: [", "expected the node content"),
    ],
)
def test_everything_else_is_one_kind_of_error(text, message):
    with pytest.raises(yaml.YAMLError, match=message):
        plain_yaml.safe_load(text)
