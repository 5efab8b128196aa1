{% set follows = {'lake_table': 'flights', 'day_column': 'scheduled_on'} %}
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

flights as (

    select * from {{ ref('int_classify_flights') }}

)

select
    -- ids
    flight_id,
    carrier_code,
    flight_number,
    tail_number,
    origin_code,
    destination_code,

    -- dates and timestamps
    scheduled_on,
    scheduled_departure_at,
    departed_at,
    scheduled_arrival_at,
    arrived_at,
    weather_hour_at,

    -- numerics
    departure_delay_min,
    arrival_delay_min,
    air_time_min,
    distance_mi,

    -- booleans
    is_cancelled,
    is_completed,
    is_departed_late,
    is_on_time

from flights

{% if is_incremental() %}
where {{ is_changed_day(follows) }}
{% endif %}
