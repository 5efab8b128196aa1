#!/bin/sh
# Run once by the PostgreSQL image, on an empty data folder: a role and a database for Airflow, and for the lake's catalog.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set airflow="$AIRFLOW_DB_PASSWORD" --set iceberg="$ICEBERG_DB_PASSWORD" <<'SQL'
create role airflow login password :'airflow';
create role iceberg login password :'iceberg';
create database airflow owner airflow;
create database iceberg owner iceberg;
revoke all on database airflow, iceberg from public;
SQL
