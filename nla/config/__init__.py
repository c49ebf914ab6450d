"""params.yaml as frozen, checked sections: one file a section, read with `section(DataConfig, read_params())`."""
