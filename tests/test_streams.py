"""A run outlives the terminal and the pipe that it prints to."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from framework.streams import LogFile

PROGRAM = """
import sys
from framework.streams import outlive_terminal
outlive_terminal()
sys.stdin.readline()
print("into nowhere", flush=True)
print("again")
sys.exit(7)
"""


def test_a_program_continues_when_its_pipe_is_closed():
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.close()
    process.communicate(b"\n", timeout=60)
    assert process.returncode == 7


def test_a_program_continues_when_its_terminal_is_closed():
    terminal, end = os.openpty()
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=end, stderr=end)
    os.close(end), os.close(terminal)
    process.communicate(b"\n", timeout=60)
    assert process.returncode == 7


def test_a_full_disk_does_not_end_the_program():
    with Path("/dev/full").open("w") as full:
        process = subprocess.run([sys.executable, "-c", PROGRAM], input=b"\n", stdout=full, timeout=60)
    assert process.returncode == 7


def test_what_is_written_arrives():
    process = subprocess.run([sys.executable, "-c", PROGRAM], input=b"\n", stdout=subprocess.PIPE, timeout=60)
    assert process.stdout == b"into nowhere\nagain\n"


def logged_to(path):
    handler = LogFile(path, delay=True, encoding="utf-8")
    for text in ("first", "second"):
        handler.emit(logging.makeLogRecord({"msg": text}))
    handler.close()


def test_a_log_file_is_appended_to(tmp_path, capsys):
    logged_to(tmp_path / "train.log"), logged_to(tmp_path / "train.log")
    assert (tmp_path / "train.log").read_text() == "first\nsecond\n" * 2 and not capsys.readouterr().err


@pytest.mark.parametrize("make", [lambda path: path.symlink_to(path.with_name("precious")), os.mkdir, os.mkfifo])
def test_a_log_that_is_no_file_costs_one_warning_and_nothing_else(tmp_path, make, capsys):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    make(tmp_path / "train.log")
    logged_to(tmp_path / "train.log")
    assert precious.read_text() == "precious"
    assert capsys.readouterr().err.count("train.log: cannot be opened") == 1
