"""One short script per DVC stage: it reads params.yaml, calls nla, and writes exactly the stage's outs."""

from __future__ import annotations

import sys

from nla.signals import end_at_once

if sys.argv[0] == "-m":  # Python is about to run a stage: it may be ended while it still imports, which takes seconds
    end_at_once()

from nla.workflow.dvc_process import end_with_dvc

end_with_dvc()
