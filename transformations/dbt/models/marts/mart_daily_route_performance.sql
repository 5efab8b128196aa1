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

    select *
    from {{ ref('fct_flights') }}
    {% if is_incremental() %}
    where {{ is_changed_day(follows) }}
    {% endif %}

),

counted as (

    select
        scheduled_on,
        origin_code,
        destination_code,

        count(*) as flights,
        count(*) filter (where is_cancelled) as flights_cancelled,
        count(*) filter (where not is_cancelled) as flights_departed,
        count(*) filter (where is_completed) as flights_completed,
        count(*) filter (where is_departed_late) as flights_departed_late,
        count(*) filter (where is_on_time) as flights_on_time,

        {{ exact_average('departure_delay_min') }} as avg_departure_delay_min,
        {{ exact_p90('departure_delay_min') }} as p90_departure_delay_min,
        {{ exact_average('arrival_delay_min') }} as avg_arrival_delay_min,
        {{ exact_p90('arrival_delay_min') }} as p90_arrival_delay_min

    from flights
    group by all

)

select
    strftime(scheduled_on, '%Y%m%d') || '-' || origin_code || '-' || destination_code as route_day_id,
    scheduled_on,
    origin_code,
    destination_code,
    flights,
    flights_cancelled,
    flights_departed,
    flights_completed,
    flights_departed_late,
    flights_on_time,
    avg_departure_delay_min,
    p90_departure_delay_min,
    avg_arrival_delay_min,
    p90_arrival_delay_min,
    {{ share_pct('flights_cancelled', 'flights') }} as cancelled_pct,
    {{ share_pct('flights_on_time', 'flights_completed') }} as on_time_pct

from counted
