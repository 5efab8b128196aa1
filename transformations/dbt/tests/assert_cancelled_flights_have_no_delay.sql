-- A returned row is a cancelled flight with a departure or an arrival.
select
    flight_id,
    departed_at,
    departure_delay_min,
    arrival_delay_min

from {{ ref('fct_flights') }}
where
    is_cancelled
    and (departed_at is not null or departure_delay_min is not null or arrival_delay_min is not null)
