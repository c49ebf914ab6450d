"""The search for hyperparameters: space -> trials on Ray Tune -> best.yaml and what is to be seen of the way there."""
