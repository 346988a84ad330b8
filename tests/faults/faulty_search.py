"""`autopeft search` whose workers have faults, and which takes twenty seconds of silence for a hang.

python faulty_search.py FAULT[,FAULT ...] SPEC --study STUDY ...
"""

from __future__ import annotations

import sys
from pathlib import Path

from autopeft import coordinator
from autopeft.cli import main
from autopeft.execute import local

SILENT_SECONDS = 20.0

if __name__ == "__main__":
    local.WORKER = (sys.executable, str(Path(__file__).with_name("faulty_worker.py")), sys.argv.pop(1))
    coordinator.FEWEST_SILENT_SECONDS = SILENT_SECONDS
    sys.argv.insert(1, "search")
    main()
