with

source as (

    select * from {{ source('refined', 'airports') }}

),

renamed as (

    select
        -- ids
        airport_code,

        -- strings
        airport_name,
        dst_rule_code,
        time_zone,

        -- numerics
        latitude_deg,
        longitude_deg,
        altitude_ft,
        utc_offset_h

    from source

)

select * from renamed
