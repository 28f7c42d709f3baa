"""`config.yaml` of a run: the config of its first start, with a digest in the last line; written once."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash
import yaml

from framework.errors import CheckpointError, DamagedError
from framework.files import replace_file
from framework.records import read_bytes, read_record

INFO_FILE = "run.json"
_KEYS_OF_VERSION_02 = ("run_id", "created", "versions", "git_commit", "code", "config_digest")
_LAST_LINE = re.compile(rb"# xxh3_128 of the above: ([0-9a-f]{32})\n")


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Never write aliases."""
        return True


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse aliases, which a run never writes: a few lines of them could fill the memory."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases")
        return super().compose_node(parent, index)


def write_config(path: Path, config: Mapping[str, Any]) -> None:
    """Write the file; raises `OSError`."""
    text = yaml.dump(dict(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True).encode()
    replace_file(path, text + b"# xxh3_128 of the above: %s\n" % _digest(text))


def read_config(path: Path) -> dict[str, Any]:
    """Return the config in plain containers; raises `FileNotFoundError`, `DamagedError` or `UnreadableError`."""
    data = read_bytes(path)
    start = data.rfind(b"\n", 0, -1) + 1
    match = _LAST_LINE.fullmatch(data, start)
    text, expected = (data[:start], match[1]) if match else (data, _digest_in_info(path.with_name(INFO_FILE)))
    if expected != _digest(text):
        raise DamagedError(f"{path}: modified since the run wrote it")
    try:
        return dict(yaml.load(text, _Loader))
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise DamagedError(f"{path}: not the config of a run ({' '.join(str(error).split())})") from error


def read_info(path: Path) -> dict[str, Any]:
    """Return the content of `run.json`; raises like `framework.records.read_record`."""
    return read_record(path, of_version_02=[_KEYS_OF_VERSION_02, (*_KEYS_OF_VERSION_02, "resumed_from")])


def _digest_in_info(path: Path) -> bytes:
    """Return the digest of `config.yaml` in `run.json`, where version 0.2 wrote it; empty if there is none."""
    try:
        return str(read_info(path).get("config_digest", "")).encode()
    except (FileNotFoundError, CheckpointError):
        return b""


def _digest(data: bytes) -> bytes:
    return xxhash.xxh3_128(data).hexdigest().encode()
