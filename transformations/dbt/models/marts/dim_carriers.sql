with

carriers as (

    select * from {{ ref('stg_lake__airlines') }}

),

named as (

    select distinct carrier_code from {{ ref('fct_flights') }}

),

known as (

    select
        carrier_code,
        carrier_name,
        true as is_known

    from carriers

),

unknown as (

    select
        named.carrier_code,
        'Unknown carrier ' || named.carrier_code as carrier_name,
        false as is_known

    from named
    anti join carriers using (carrier_code)

)

select * from known
union all
select * from unknown
