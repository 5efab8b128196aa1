with

airports as (

    select * from {{ ref('stg_lake__airports') }}

),

named as (

    select origin_code as airport_code from {{ ref('fct_flights') }}
    union
    select destination_code as airport_code from {{ ref('fct_flights') }}

),

known as (

    select
        airport_code,
        airport_name,
        true as is_known,
        latitude_deg,
        longitude_deg,
        altitude_ft,
        utc_offset_h,
        dst_rule_code,
        time_zone

    from airports

),

unknown as (

    select
        named.airport_code,
        'Unknown airport ' || named.airport_code as airport_name,
        false as is_known,
        null as latitude_deg,
        null as longitude_deg,
        null as altitude_ft,
        null as utc_offset_h,
        null as dst_rule_code,
        null as time_zone

    from named
    anti join airports using (airport_code)

)

select * from known
union all
select * from unknown
