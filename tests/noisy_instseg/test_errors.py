"""How a command of this project ends."""

import pytest

from noisy_instseg.run.errors import exit_status, say


@pytest.mark.parametrize(
    "text",
    [
        "failed to load image: a b.png",
        "Caught AssertionError in DataLoader worker process 0.\nOriginal Traceback (most recent "
        "call last):\nAssertionError: failed to load image: a b.png\n",
    ],
)
def test_a_picture_that_cannot_be_decoded_is_named(text, capsys):
    def load():
        raise AssertionError(text)

    assert exit_status(load) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: a b.png cannot be decoded")
    assert len(message.splitlines()) == 1


def test_another_assertion_is_not_hidden():
    def fail():
        raise AssertionError("3 boxes, 2 labels")

    with pytest.raises(AssertionError, match="3 boxes"):
        exit_status(fail)


def test_what_files_say_does_not_command_the_terminal(capsys):
    say("note: trained on the classes \x1b[31mred")

    def fail():
        raise FileNotFoundError(2, "No such file or directory", "\x1b[31m.png")

    assert exit_status(fail) == 2
    said = capsys.readouterr().err
    assert said.startswith("note: trained on the classes \\x1b[31mred\nerror: \\x1b[31m.png")
