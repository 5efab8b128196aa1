{% set follows = {'lake_table': 'weather', 'day_column': 'observed_on'} %}
{{
    config(
        materialized='incremental',
        incremental_strategy='replace_changed_days',
        on_schema_change='fail',
        meta=follows,
    )
}}
-- depends_on: {{ source('build', 'changed_days') }}

with

weather as (

    select * from {{ ref('stg_lake__weather') }}

)

select
    -- ids
    station_code,

    -- dates and timestamps
    observed_on,
    observed_at,

    -- numerics
    local_hour,
    temperature_f,
    dew_point_f,
    humidity_pct,
    wind_direction_deg,
    wind_speed_mph,
    wind_gust_mph,
    precipitation_in,
    pressure_mbar,
    visibility_mi

from weather

{% if is_incremental() %}
where {{ is_changed_day(follows) }}
{% endif %}
