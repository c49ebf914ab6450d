"""A stage of the DAG as a process: its folders, its runs under way, what its result hangs on, its end with DVC."""
