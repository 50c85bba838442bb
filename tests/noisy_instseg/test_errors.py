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


def test_the_end_of_another_process_is_told_in_words(monkeypatch, capsys):
    def fail():
        raise RuntimeError("[pair.cc:561] Connection closed by peer [127.0.0.1]:54954. GLHF!")

    with pytest.raises(RuntimeError, match="GLHF"):  # of a run alone it would be something else
        exit_status(fail)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert exit_status(fail, again="the same command with --resume") == 2
    message = "another process of this run has ended, see its message; after that the same command"
    assert message in capsys.readouterr().err
