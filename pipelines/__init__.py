"""One short script a DVC stage: it reads params.yaml, calls nla, and writes exactly the stage's outs."""

from __future__ import annotations

from nla.workflow.dvc import end_with_dvc

end_with_dvc()  # from here on: what a stage imports takes seconds, in which DVC may be killed already
