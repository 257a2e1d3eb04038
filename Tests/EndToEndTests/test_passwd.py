"""`node passwd`: the file it writes, what it asks, what it refuses."""

import os
import pty
import re
import signal
import stat
import subprocess
import termios

import pytest

from dunlin import BINARY, ENVIRONMENT, PATIENCE


def passwd(*arguments, typed=""):
    return subprocess.run(
        [BINARY, "passwd", *map(str, arguments)],
        input=typed,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=ENVIRONMENT,
    )


@pytest.fixture
def file(tmp_path):
    return tmp_path / "passwords"


def test_a_user_is_added_and_only_the_owner_may_read_the_file(file):
    done = passwd(file, "anna", typed="open sesame\n")
    assert (done.returncode, done.stdout) == (0, "")
    assert re.fullmatch(r"anna:\S+\n", file.read_text())
    assert "sesame" not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_other_lines_and_the_mode_stay_when_a_password_changes(file):
    file.write_text("# the gateways\n\n")
    passwd(file, "anna", typed="1\n")
    passwd(file, "bert", typed="1\n")
    before = file.read_text().splitlines()
    file.chmod(0o640)
    assert passwd(file, "anna", typed="2\n").returncode == 0
    after = file.read_text().splitlines()
    assert [line for line in after if line in before] == ["# the gateways", "", before[3]]
    assert after[2].startswith("anna:")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_the_same_password_is_hashed_to_something_else_each_time(file):
    passwd(file, "anna", typed="1\n")
    passwd(file, "bert", typed="1\n")
    anna, bert = (line.partition(":")[2] for line in file.read_text().splitlines())
    assert anna != bert


def test_the_number_of_rounds_may_be_chosen(file):
    assert passwd(file, "anna", "--iterations", 5000, typed="1\n").returncode == 0
    assert passwd(file, "bert", typed="1\n").returncode == 0
    rounds = [re.search(r"\$(\d+):", line)[1] for line in file.read_text().splitlines()]
    assert rounds == ["5000", "210000"]
    before = file.read_text()
    for number in (4095, 10000001, "many"):
        assert passwd(file, "anna", "--iterations", number, typed="1\n").returncode == 64
    assert file.read_text() == before


def test_a_user_is_deleted(file):
    passwd(file, "anna", typed="1\n")
    passwd(file, "bert", typed="1\n")
    assert passwd(file, "--delete", "anna").returncode == 0
    assert re.fullmatch(r"bert:\S+\n", file.read_text())


@pytest.mark.parametrize(
    "arguments, typed, culprit",
    [
        (["--delete", "nobody"], "", "passwords: the file has no user nobody"),
        (["anna"], "", "no password"),
        (["anna"], "\n", "no password"),
        (["an:na"], "x\n", "colon"),
        (["anna"], "x" * 70000, "larger"),
    ],
    ids=["unknown user", "no input", "empty password", "colon in the name", "endless input"],
)
def test_what_is_wrong_is_told_and_the_file_stays(file, arguments, typed, culprit):
    passwd(file, "bert", typed="1\n")
    before = file.read_text()
    done = passwd(file, *arguments, typed=typed)
    assert done.returncode == 1
    assert culprit in done.stderr
    assert file.read_text() == before
    assert os.listdir(file.parent) == [file.name]


def test_a_wrong_file_is_told_with_its_line_and_stays(file):
    file.write_text("# fine\nanna\n")
    done = passwd(file, "bert", typed="1\n")
    assert done.returncode == 1
    assert f"{file}: line 2" in done.stderr
    assert file.read_text() == "# fine\nanna\n"


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    done = passwd(tmp_path / "no such directory" / "file", "anna", typed="1\n")
    assert done.returncode == 1
    assert "no such directory" in done.stderr


def on_a_terminal(file, *answers):
    """Answers what is asked; returns what was shown and the exit status."""
    process, terminal = pty.fork()
    if process == 0:
        os.execve(BINARY, [BINARY, "passwd", str(file), "anna"], ENVIRONMENT)
    shown = b""
    with os.fdopen(terminal, "r+b", buffering=0) as stream:
        for answer in answers:
            while not shown.endswith(b": "):
                shown += stream.read(1)
            stream.write(answer.encode() + b"\n")
            shown += stream.read(1)
        try:
            while part := stream.read(100):
                shown += part
        except OSError:
            # The other end of a terminal is gone: so Linux says the end.
            pass
    return shown.decode(), os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_a_terminal_does_not_show_what_is_typed(file):
    shown, status = on_a_terminal(file, "open sesame", "open sesame")
    assert status == 0
    assert "anna" in shown
    assert "sesame" not in shown
    assert file.read_text().startswith("anna:")


def test_two_different_answers_on_a_terminal_change_nothing(file):
    shown, status = on_a_terminal(file, "open sesame", "open simsim")
    assert status == 1
    assert "not the same" in shown
    assert not file.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_the_question_gives_the_terminal_its_echo_back(file, number):
    def echoes():
        return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)

    process, terminal = pty.fork()
    if process == 0:
        os.execve(BINARY, [BINARY, "passwd", str(file), "anna"], ENVIRONMENT)
    with os.fdopen(terminal, "r+b", buffering=0) as stream:
        shown = b""
        while not shown.endswith(b": "):
            shown += stream.read(1)
        assert not echoes()
        if number == signal.SIGINT:
            stream.write(b"\x03")
        else:
            os.kill(process, number)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -number
        assert echoes()
    assert not file.exists()


def test_no_user_is_lost_when_many_are_added_at_once(file):
    users = [f"user{number}" for number in range(6)]
    command = [BINARY, "passwd", str(file)]
    added = [
        subprocess.Popen([*command, user], stdin=subprocess.PIPE, text=True, env=ENVIRONMENT) for user in users
    ]
    for process in added:
        process.stdin.write("x\n")
        process.stdin.flush()
    # The first line is enough: standard input is still open.
    assert [process.wait(PATIENCE) for process in added] == [0] * len(users)
    for process in added:
        process.stdin.close()
    assert sorted(re.findall(r"^(\w+):", file.read_text(), re.MULTILINE)) == users


def test_what_follows_the_first_line_of_standard_input_is_left_for_others(file):
    script = f'"{BINARY}" passwd "{file}" anna && cat'
    command = ["sh", "-c", script]
    done = subprocess.run(command, input="open sesame\nrest\n", capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (0, "rest\n")
