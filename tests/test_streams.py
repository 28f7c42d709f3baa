"""A run outlives the terminal and the pipe that it writes to."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from framework.streams import outlive_terminal
outlive_terminal()
sys.stdin.readline()
print("into nowhere", flush=True)
print("again")
sys.exit(7)
"""


def test_a_program_goes_on_when_its_pipe_is_gone():
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.close()
    process.communicate(b"\n", timeout=60)
    assert process.returncode == 7


def test_a_program_goes_on_when_its_terminal_is_gone():
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
