-- The two delay limits of the warehouse are defined here and nowhere else.
{% set late_after_min = 15 %}

with

flights as (

    select * from {{ ref('stg_lake__flights') }}

),

classified as (

    select
        *,
        arrival_delay_min is not null and not is_cancelled as is_completed,
        case when not is_cancelled then departure_delay_min > {{ late_after_min }} end as is_departed_late,
        case when not is_cancelled then arrival_delay_min <= {{ late_after_min }} end as is_on_time

    from flights

)

select * from classified
