"""The two tables and the way to them: sources, ingest, prepare, samples, loader."""
