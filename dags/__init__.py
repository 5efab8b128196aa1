"""The scheduler's door: thin DAG files made from the source specs. The only folder that imports airflow."""
