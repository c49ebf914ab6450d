"""One short script a DVC stage: it reads params.yaml, calls nla, and writes exactly the stage's outs."""
