"""Hyperparameter search: space -> trials on Ray Tune -> best.yaml, tables, figures and MLflow runs."""
