"""Objects of a bucket or folder -> staged Parquet: listed, fetched, verified, decoded, converted without loss."""
