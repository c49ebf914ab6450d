"""The command `nla`: what is done with a model after training."""
