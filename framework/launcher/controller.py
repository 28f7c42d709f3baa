"""The parent of a local job's processes: submitit's, but for the number of requeues, which has no limit."""

import sys
from pathlib import Path

from submitit.local.local import Controller

if __name__ == "__main__":
    Controller(Path(sys.argv[1])).run(max_retry=sys.maxsize)
