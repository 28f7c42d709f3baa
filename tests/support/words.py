"""Words to which this code base had given meanings of its own, with what to write instead.

`WORDS` occur nowhere, in prose or in names: a letter before or after belongs to another word, and a space stands for
any gap, so that `go on` is also found in `go_on` and where a comment is wrapped. `NAMES` are not given to a class,
function, argument, variable or attribute, those with parentheses not to a function; in prose they are plain English.
`MODULES` are not the name of a file in framework/.
"""

import ast
import re
from pathlib import Path

WORDS = {
    "(go|goes|going|gone|went) on": "resume, continue",
    "mend(s|ed|ing)?": "fix",
    "but for": "except",
    "(told|tells?) of": "reported, logged, says",
    "afresh|anew": "again, from scratch",
    "(comes?|came) (and|or) (go|goes|went)": "added, removed",
    "deaf": "does not receive the signal; check_signal_delivery",
    "lessons?": "TrainTask",
    "NextAttempts?": "Requeuer",
    "SteadyStreams?": "BrokenPipeSafeStream",
    "uncollected": "gc_frozen",
}
NAMES = {
    "Ranks": "DistributedContext",
    "Group": "ProcessGroupContext",
    "Place": "RankInfo",
    "End": "Shutdown",
    "meeting": "init_method",
    "share()": "broadcast_object",
    "agree()": "all_reduce_stop",
    "Requeue": "Requeuer",
    "Facts": "JobState",
    "facts": "metadata",
    "Reading": "TimeEstimate",
    "Answer": "CommandResult",
    "Ticket": "SubmittedJob",
    "ticket": "job",
    "uninterrupted()": "defer_signals",
    "settle()": "refresh, mark_sent",
    "pinned": "run record, config",
    "Origins": "ConfigSources",
    "Finish": "Evaluation",
    "overview": "run_status",
}
MODULES = {
    "follow": "worker, monitor",
    "lesson": "task",
    "ticket": "jobs",
    "uninterrupted": "defer_signals",
    "finish": "evaluate",
    "more": "resample",
    "given": "conditional",
    "probe": "infer_shapes",
    "renewal": "resimulate",
    "origin": "config_sources",
    "owner": "code_owner, lease_file",
    "loading": "imports",
}
_GAP = r"[\s_#]+"
_PATTERNS = {
    re.compile(rf"(?<![a-z])(?:{word.replace(' ', _GAP)})(?![a-z])", re.IGNORECASE): better
    for word, better in WORDS.items()
}


def misnamed(path: Path) -> list[str]:
    """Return a line for each of these words in a file: where it is, and what to write instead."""
    text = path.read_text()
    found = [
        (text.count("\n", 0, match.start()) + 1, match[0], better)
        for pattern, better in _PATTERNS.items()
        for match in pattern.finditer(text)
    ]
    if path.suffix == ".py":
        found += [(line, name, NAMES[name]) for line, name in _defined(text) if name in NAMES]
    return [f"{path}:{line}: {' '.join(word.split())!r}: write {better}" for line, word, better in sorted(found)]


def _defined(text):
    """Yield what a file gives names to, and the line, without leading underscores; functions with parentheses too."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.FunctionDef(name=name):
                yield node.lineno, f"{name.strip('_')}()"
                yield node.lineno, name.strip("_")
            case (
                ast.ClassDef(name=name)
                | ast.arg(arg=name)
                | ast.Name(id=name, ctx=ast.Store())
                | ast.Attribute(attr=name, ctx=ast.Store())
            ):
                yield node.lineno, name.strip("_")
