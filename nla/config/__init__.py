"""params.yaml as frozen, validated sections, one file per section: `section(DataConfig, read_params())`."""
