"""One short script per DVC stage: it reads params.yaml, calls nla, and writes exactly the stage's outs."""

from __future__ import annotations

from nla.workflow.dvc_process import end_with_dvc

end_with_dvc()  # before the imports of a stage, which take seconds in which DVC may already be killed
