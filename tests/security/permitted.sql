-- What people really write; one statement a line. All of it must pass.
select * from visible
select code, sum(amount) as total from visible group by code order by total desc limit 10
select count(*), avg(amount), median(amount), quantile_cont(amount, 0.9) from visible;
select code, amount, rank() over (partition by code order by amount desc) as place from visible qualify place <= 3
with per_code as (select code, count(*) as n from visible group by all) select * from per_code where n > 1 -- the large ones
with recursive days as (select date '2013-01-01' as d union all select d + 1 from days where d < '2013-01-05') select * from days
select a.code, b.amount from visible a left join visible b using (code) where a.amount between 1 and 5
select date_trunc('month', timestamp '2013-05-04 10:00:00'), extract(dow from date '2013-05-04'), now() > '2020-01-01'
select coalesce(null, 1), nullif(1, 2), greatest(1, 2), round(2.555, 2), 7 // 2, 7 % 2, 2 ** 3, -amount from visible
select upper(code) || '-' || lpad('7', 3, '0'), regexp_replace(code, 'o', '0'), code ilike 'O%', code not like 'x%' from visible
select list_transform([1, 2, 3], lambda x: x * 2), [x for x in [1, 2] if x > 1], {'a': 1}.a, map {'k': 1}['k']
select case when amount > 2 then 'many' else 'few' end as size, count(*) from visible group by 1
select * exclude (amount), amount::decimal(10, 2) as amount from visible
select columns('a.*') from visible
select code from visible union all select code from visible intersect select code from visible
select * from range(3) as r(i), unnest([1, 2]) as u(x)
select json_extract_string('{"a": "b"}', '$.a'), to_json({'a': 1})
select grouping(code), code, sum(amount) from visible group by rollup (code)
select exists (select 1 from visible where amount > 1), (select max(amount) from visible), 3 in (1, 2, 3)
values (1, 'a'), (2, 'b')
from visible select code limit 1
select count(distinct code) filter (where amount > 1), string_agg(code, ',' order by code), bool_or(amount > 1) from visible
select current_date, today(), date_diff('day', date '2013-01-01', date '2013-02-01'), to_days(3)
select try_cast('x' as integer), cast('1.5' as double), '2013-01-01'::date, 1::json
select * from visible using sample 50%
select * from main.visible
