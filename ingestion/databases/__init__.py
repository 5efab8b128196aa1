"""Tables of an operational database -> staged Parquet, in one snapshot, every value exact or set apart."""
