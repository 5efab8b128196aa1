-- A returned row is a route and day whose counts contradict each other.
select *
from {{ ref('mart_daily_route_performance') }}
where
    flights != flights_cancelled + flights_departed
    or flights_completed > flights_departed
    or flights_on_time > flights_completed
    or flights_departed_late > flights_departed
