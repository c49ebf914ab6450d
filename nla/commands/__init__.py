"""The command `nla`: use a model after training."""
