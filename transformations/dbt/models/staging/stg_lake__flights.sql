with

source as (

    select * from {{ source('refined', 'flights') }}

),

renamed as (

    select
        -- ids
        flight_id,
        carrier_code,
        flight_number,
        tail_number,
        origin_code,
        destination_code,

        -- numerics
        departure_delay_min,
        arrival_delay_min,
        air_time_min,
        distance_mi,

        -- booleans
        is_cancelled,

        -- dates and timestamps
        ds as scheduled_on,
        scheduled_departure_at,
        departed_at,
        scheduled_arrival_at,
        arrived_at,
        weather_hour_at

    from source

)

select * from renamed
