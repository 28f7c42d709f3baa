"""The options that a job was submitted with, from `scontrol show job`: its script lacks those of the command line.

Tried on 22.05; later versions write `gres/gpu` for `gres:gpu`.
"""

import re

# By the names of `scontrol show job`; options that it does not show, or that only root may use, are missing.
_OPTIONS = {
    "Partition": "partition",
    "Account": "account",
    "QOS": "qos",
    "Reservation": "reservation",
    "TimeLimit": "time",
    "NumNodes": "nodes",
    "NumTasks": "ntasks",
    "CPUs/Task": "cpus-per-task",
    "MinMemoryNode": "mem",
    "MinMemoryCPU": "mem-per-cpu",
    "Features": "constraint",
    "ReqNodeList": "nodelist",
    "ExcNodeList": "exclude",
    "Licenses": "licenses",
    "MailUser": "mail-user",
    "MailType": "mail-type",
    "WorkDir": "chdir",
    "StdOut": "output",
    "StdErr": "error",
}
_GPU_OPTIONS = {
    "TresPerJob": "gpus",
    "TresPerSocket": "gpus-per-socket",
    "TresPerTask": "gpus-per-task",
    "CpusPerTres": "cpus-per-gpu",
    "MemPerTres": "mem-per-gpu",
}
_EXCLUDED = {"cpus-per-gpu": ("cpus-per-task",), "mem-per-gpu": ("mem", "mem-per-cpu")}  # sbatch takes only one of them
_NONE = ("(null)", "N/A", "UNLIMITED", "")


def options_of(shown: str, submit_line: str) -> list[str]:
    """Return the options; `shown` is the output of `scontrol show job`, `submit_line` the command as sacct knows it."""
    fields = dict(re.findall(r"(\S+?)=(\S*)", shown))
    name = re.search(r"\bJobName=(.+)", shown)  # the only value that may hold spaces
    options = {"job-name": name[1].strip()} if name else {}
    options |= {option: fields[key] for key, option in _OPTIONS.items() if fields.get(key, "") not in _NONE}
    options |= {option: gpus for key, option in _GPU_OPTIONS.items() if (gpus := _gpus(fields.get(key, "")))}
    if gres := [item[5:] for item in fields.get("TresPerNode", "").split(",") if item.startswith("gres")]:
        options["gres"] = ",".join(gres)
    if per_node := re.match(r"[1-9]\d*", fields.get("NtasksPerN:B:S:C", "")):
        options["ntasks-per-node"] = per_node[0]
    if signal := re.search(r" --signal[= ](\S+)", submit_line):
        options["signal"] = signal[1]
    for option, others in _EXCLUDED.items():
        if option in options:
            options = {key: value for key, value in options.items() if key not in others}
    exclusive = ["--exclusive"] if fields.get("OverSubscribe") == "NO" else []
    return [*(f"--{option}={value}" for option, value in options.items()), *exclusive]


def _gpus(text: str) -> str:
    """Return `a100:2` of `gres:gpu:a100:2`, empty if there are no GPUs."""
    found = re.search(r"(?:^|,)gres[:/]gpu[:=]([^,]+)", text)
    return found[1] if found else ""
