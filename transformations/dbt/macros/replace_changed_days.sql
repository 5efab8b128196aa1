{#-
  Incremental by interval: the days whose lake partitions changed are deleted from the table and built again, also when
  nothing is left of such a day. A model says in its meta which lake table it follows and which column holds the day.
-#}

{#- Predicate: does this row belong to a day that changed? -#}
{% macro is_changed_day(follows) -%}
    {{ follows['day_column'] }} in (
        select changed_days.ds
        from {{ source('build', 'changed_days') }} as changed_days
        where changed_days.table_name = '{{ follows["lake_table"] }}'
    )
{%- endmacro %}

{#- The strategy itself; dbt finds it by this name. Deletion and insertion share dbt's transaction. -#}
{% macro get_incremental_replace_changed_days_sql(arg_dict) -%}
    {%- set columns = get_quoted_csv(arg_dict['dest_columns'] | map(attribute='name')) -%}
    delete from {{ arg_dict['target_relation'] }}
    where {{ is_changed_day(config.get('meta')) }};

    insert into {{ arg_dict['target_relation'] }} ({{ columns }})
    select {{ columns }}
    from {{ arg_dict['temp_relation'] }}
{%- endmacro %}
