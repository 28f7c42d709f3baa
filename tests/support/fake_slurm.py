"""Executables that stand for Slurm's: sbatch keeps what it is given, squeue answers what the test says."""

import json
import os
import stat
import sys
from pathlib import Path

_SCRIPT = """#!{python}
import json, os, pathlib, signal, sys
root = pathlib.Path({root!r})
answers = json.loads((root / "answers.json").read_text())
name, arguments = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
with (root / "calls").open("a") as file:
    file.write(json.dumps([name, *arguments]) + "\\n")
if name == "sbatch":
    number = len(list(root.glob("script-*"))) + 1
    if answers["refusal"]:
        sys.exit(answers["refusal"])
    if answers["interrupted"]:
        for pid in (os.getppid(), os.getpid()):
            os.kill(pid, signal.SIGINT)
    (root / f"script-{{number}}").write_text(pathlib.Path(arguments[-1]).read_text())
    print(f"Submitted batch job {{number}}")
elif name == "squeue":
    rows = answers["squeue"].pop(0) if len(answers["squeue"]) > 1 else answers["squeue"][0]
    (root / "answers.json").write_text(json.dumps(answers))
    print("\\n".join("|".join(row) for row in rows))
elif name == "scontrol":
    print("MaxArraySize            =", answers["max_array_size"])
"""


class FakeSlurm:
    """The commands in a directory that comes first on PATH."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("sbatch", "squeue", "scontrol", "srun"):
            path = root / name
            path.write_text(_SCRIPT.format(python=sys.executable, root=str(root)))
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        self.path = f"{root}{os.pathsep}{os.environ['PATH']}"
        self.answer()

    def answer(self, squeue=((),), max_array_size=1001, refusal="", interrupted=False) -> None:
        """Set the answers; `squeue` is one list of (id, state, reason) for each call, the last one for all others.

        `interrupted`: sbatch and who called it get what Ctrl+C sends.
        """
        answers = {"squeue": squeue, "max_array_size": max_array_size, "refusal": refusal, "interrupted": interrupted}
        (self.root / "answers.json").write_text(json.dumps(answers))

    def scripts(self) -> list[str]:
        """What was submitted."""
        return [path.read_text() for path in sorted(self.root.glob("script-*"))]

    def calls(self, name: str) -> list[list[str]]:
        """The arguments of each call of one command."""
        path = self.root / "calls"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line[1:] for line in lines if line[0] == name]
