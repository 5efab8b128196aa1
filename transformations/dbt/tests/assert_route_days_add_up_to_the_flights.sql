-- A returned row is a day whose routes do not add up to its flights: the mart and the fact were built from different days.
with

routes as (

    select
        scheduled_on,
        sum(flights) as flights,
        sum(flights_cancelled) as flights_cancelled,
        sum(flights_on_time) as flights_on_time

    from {{ ref('mart_daily_route_performance') }}
    group by scheduled_on

),

days as (

    select
        scheduled_on,
        count(*) as flights,
        count(*) filter (where is_cancelled) as flights_cancelled,
        count(*) filter (where is_on_time) as flights_on_time

    from {{ ref('fct_flights') }}
    group by scheduled_on

)

(from routes except from days)
union all
(from days except from routes)
