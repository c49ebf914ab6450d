"""Running stages of the DAG: folders, logs, runs under way, provenance, and termination with DVC."""
