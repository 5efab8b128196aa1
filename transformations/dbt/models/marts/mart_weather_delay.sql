with

flights as (

    select
        origin_code,
        weather_hour_at,
        is_cancelled,
        is_departed_late,
        departure_delay_min

    from {{ ref('fct_flights') }}

),

bands as (

    select * from {{ ref('int_list_weather_bands') }}

),

factors as (

    select distinct weather_factor from bands

),

readings as (

    unpivot {{ ref('fct_weather_hourly') }}
    on wind_speed_mph, precipitation_in, visibility_mi, temperature_f
    into name weather_factor value reading

),

banded as (

    select
        readings.station_code,
        readings.observed_at,
        readings.weather_factor,
        bands.band_rank,
        bands.weather_band

    from readings
    inner join bands
        on readings.weather_factor = bands.weather_factor
        and (bands.at_least is null or readings.reading >= bands.at_least)
        and (bands.below is null or readings.reading < bands.below)

),

-- every flight once per factor, also where the hour or the reading is missing
paired as (

    select
        flights.*,
        factors.weather_factor,
        coalesce(banded.band_rank, 0) as band_rank,
        coalesce(banded.weather_band, 'not measured') as weather_band

    from flights
    cross join factors
    left join banded
        on flights.origin_code = banded.station_code
        and flights.weather_hour_at = banded.observed_at
        and factors.weather_factor = banded.weather_factor

),

counted as (

    select
        origin_code,
        weather_factor,
        band_rank,
        weather_band,

        count(*) as flights,
        count(*) filter (where is_cancelled) as flights_cancelled,
        count(*) filter (where not is_cancelled) as flights_departed,
        count(*) filter (where is_departed_late) as flights_departed_late,

        {{ exact_average('departure_delay_min') }} as avg_departure_delay_min,
        {{ exact_p90('departure_delay_min') }} as p90_departure_delay_min

    from paired
    group by all

)

select
    origin_code || '-' || weather_factor || '-' || band_rank as weather_delay_id,
    origin_code,
    weather_factor,
    band_rank,
    weather_band,
    flights,
    flights_cancelled,
    flights_departed,
    flights_departed_late,
    avg_departure_delay_min,
    p90_departure_delay_min,
    {{ share_pct('flights_cancelled', 'flights') }} as cancelled_pct,
    {{ share_pct('flights_departed_late', 'flights_departed') }} as departed_late_pct

from counted
