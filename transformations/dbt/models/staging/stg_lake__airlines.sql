with

source as (

    select * from {{ source('refined', 'airlines') }}

),

renamed as (

    select
        -- ids
        carrier_code,

        -- strings
        carrier_name

    from source

)

select * from renamed
