with

source as (

    select * from {{ source('refined', 'planes') }}

),

renamed as (

    select
        -- ids
        tail_number,

        -- strings
        plane_type,
        manufacturer,
        model,
        engine_type,

        -- numerics
        manufactured_year,
        engine_count,
        seat_count,
        cruising_speed_mph

    from source

)

select * from renamed
