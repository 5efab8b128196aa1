with

planes as (

    select * from {{ ref('stg_lake__planes') }}

),

named as (

    select distinct tail_number
    from {{ ref('fct_flights') }}
    where tail_number is not null

),

known as (

    select
        tail_number,
        true as is_known,
        manufacturer,
        model,
        manufactured_year,
        plane_type,
        engine_type,
        engine_count,
        seat_count,
        cruising_speed_mph

    from planes

),

unknown as (

    select
        named.tail_number,
        false as is_known,
        null as manufacturer,
        null as model,
        null as manufactured_year,
        null as plane_type,
        null as engine_type,
        null as engine_count,
        null as seat_count,
        null as cruising_speed_mph

    from named
    anti join planes using (tail_number)

)

select * from known
union all
select * from unknown
