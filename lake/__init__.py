"""The stored contract: catalog, paths, Parquet files, commits, snapshots. Imports only ``common``."""
