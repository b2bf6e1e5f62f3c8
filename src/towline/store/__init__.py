"""The run journal: one SQLite file, written through one gate."""
