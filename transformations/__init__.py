"""Stage: raw lake tables -> refined lake tables (Polars) -> models (dbt). Judges nothing, publishes nothing."""
