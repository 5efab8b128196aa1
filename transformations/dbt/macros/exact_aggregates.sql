{#-
  Aggregates whose answer does not depend on the order of rows, so that the same inputs give the same table however often
  and in whatever pieces it was built: integers are summed exactly and divided once; quantiles pick an existing value.
-#}

{#- Average of an integer column, to two decimals; null where there is nothing to average. -#}
{% macro exact_average(column) -%}
    cast(round(cast(sum({{ column }}) as double) / count({{ column }}), 2) as decimal(9, 2))
{%- endmacro %}

{#- Nearest-rank 90th percentile of an integer column: always one of its values. -#}
{% macro exact_p90(column) -%}
    quantile_disc({{ column }}, 0.9)
{%- endmacro %}

{#- Share of one count in another in percent, to two decimals; null where the whole is zero. -#}
{% macro share_pct(part, whole) -%}
    cast(round(100.0::double * {{ part }} / nullif({{ whole }}, 0), 2) as decimal(5, 2))
{%- endmacro %}
