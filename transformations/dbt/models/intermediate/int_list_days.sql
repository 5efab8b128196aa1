-- dbt wants such a list in a project that defines metrics; no metric is made of it.
select cast(days.range as date) as calendar_on
from range(date '2000-01-01', date '2051-01-01', interval 1 day) as days
