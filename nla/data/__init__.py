"""Data: the tables `faces` and `samples`, and how they are made: sources, ingest, prepare, samples, loader."""
