-- A returned row is a station and hour with more than one reading.
select
    station_code,
    observed_at,
    count(*) as readings

from {{ ref('fct_weather_hourly') }}
group by station_code, observed_at
having count(*) > 1
