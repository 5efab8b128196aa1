-- A returned row is a weather factor whose bands do not add up to all flights: a reading in no band or in two, or a
-- station with two readings for one hour.
with

factors as (

    select weather_factor, sum(flights) as flights
    from {{ ref('mart_weather_delay') }}
    group by weather_factor

),

everything as (

    select count(*) as flights from {{ ref('fct_flights') }}

)

select
    factors.weather_factor,
    factors.flights,
    everything.flights as flights_expected

from factors
cross join everything
where factors.flights != everything.flights
