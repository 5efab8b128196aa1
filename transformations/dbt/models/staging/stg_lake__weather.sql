with

source as (

    select * from {{ source('refined', 'weather') }}

),

renamed as (

    select
        -- ids
        station_code,

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
        visibility_mi,

        -- dates and timestamps
        ds as observed_on,
        observed_at

    from source

)

select * from renamed
