-- Statements that try to get out of the sandbox, one a line, by what they are after. {file} holds a canary, {database} is
-- the release's own path, {port} is a listener that counts connections. `secret` is a table that the role may not see,
-- `visible` one of which it sees two columns (code, amount) and only the rows with code 'open'.

-- files, by function
select * from read_csv('{file}')
select * from read_csv_auto('{file}')
select * from read_text('{file}')
select content from read_text('/etc/passwd')
select * from read_blob('{file}')
select * from read_parquet('{file}')
select * from parquet_scan('{file}')
select * from parquet_metadata('{file}')
select * from parquet_schema('{file}')
select * from parquet_kv_metadata('{file}')
select * from read_json('{file}')
select * from read_json_auto('{file}')
select * from read_json_objects('{file}')
select * from read_ndjson('{file}')
select * from read_ndjson_objects('{file}')
select * from sniff_csv('{file}')
select * from glob('/*')
select * from glob('{file}')
select * from read_duckdb('{database}')
select * from read_csv('/proc/self/environ')
select * from read_text('/proc/self/maps')
select * from read_blob('/dev/zero')
select * from read_text('../../../../etc/passwd')
select * from read_text('warehouse.duckdb')
select * from READ_TEXT('{file}')
select * from "read_text"('{file}')
select * from main.read_text('{file}')
select * from system.main.read_text('{file}')
select * from main."read_csv"('{file}', header := false)
select (select content from read_text('{file}'))
select * from visible where code in (select content from read_text('{file}'))
with stolen as (select * from read_text('{file}')) select * from stolen
with recursive r as (select 1 n union all select n + 1 from r, read_text('{file}') where n < 2) select * from r
select * from visible, lateral (select * from read_text('{file}')) as x
select * from visible join read_text('{file}') on true
select * from (values (1)) as v(x), read_text('{file}')
select * from visible union all select content, 1 from read_text('{file}')
select * from visible order by (select content from read_text('{file}'))
select * from visible limit (select length(content) from read_text('{file}'))
select case when exists (from read_text('{file}')) then 1 end
select list_transform([1], lambda x: (select content from read_text('{file}')))
select count(*) filter (where exists (from read_text('{file}'))) from visible
select sum(amount) over (order by (select content from read_text('{file}'))) from visible
from visible select * qualify row_number() over (order by (select 1 from read_text('{file}'))) = 1

-- files, by name
select * from '{file}'
select * from "{file}"
from '{file}'
select * from '/etc/passwd'
select * from '/*'
select * from 'file://{file}'
select * from '{database}'
table "{file}"
select * from 'warehouse.duckdb'
with "{file}" as (select 1) select * from (select * from "{file}") union all select * from "{file}"
select * from visible where exists (select 1 from '{file}')

-- files, by statement
copy (select 1) to '{file}.out'
copy visible to '{file}.out' (format csv)
copy visible from '{file}'
copy (select * from read_text('{file}')) to '/tmp/x.csv'
export database '{file}.dir'
import database '{file}.dir'
attach '{database}' as other
attach '{database}' as other (read_only)
attach ':memory:' as other
attach 'md:' as cloud
detach warehouse
use warehouse
use memory
install httpfs
install spatial from community
force install httpfs from 'http://127.0.0.1:{port}'
load httpfs
load '{file}'
update extensions

-- network
select * from read_csv('http://127.0.0.1:{port}/x.csv')
select * from read_parquet('https://127.0.0.1:{port}/x.parquet')
select * from read_json('http://127.0.0.1:{port}/x.json')
select * from 'http://127.0.0.1:{port}/x.csv'
select * from 's3://bucket/x.parquet'
select * from read_parquet('s3://bucket/x.parquet')
select * from read_parquet('gcs://bucket/x.parquet')
select * from read_text('hf://datasets/x/y.txt')
attach 'http://127.0.0.1:{port}/x.duckdb' as web
attach 'host=127.0.0.1 port={port}' as pg (type postgres)
select * from postgres_query('pg', 'select 1')
select * from postgres_scan('host=127.0.0.1 port={port}', 'public', 't')
select * from mysql_query('db', 'select 1')
select * from sqlite_scan('{file}', 't')
select * from iceberg_scan('{file}')
select * from delta_scan('{file}')
create secret s (type s3, key_id 'a', secret 'b')
select * from duckdb_secrets()
select which_secret('s3://bucket/x', 's3')
select * from which_secret('s3://bucket/x', 's3')

-- more than one statement, or another kind
select 1; select 2
select 1; drop table visible
select 1; copy (select 1) to '{file}.out'
; ; attach '{database}' as other
select 1 /* ; */; set threads = 8
begin; select 1
begin transaction
commit
rollback
insert into visible values ('x', 1)
update visible set amount = 0
delete from visible
truncate visible
create table t as select 1
create temp table t as select 1
create view v as select * from secret
create or replace view visible as select * from warehouse.main.secret
create macro m() as table select * from warehouse.main.secret
create function f(x) as x + 1
create schema s
create sequence s
create type t as enum ('a')
create index i on visible (code)
drop view visible
drop table warehouse.main.secret
alter table visible rename to other
alter database warehouse set alias to other
comment on table visible is 'x'
merge into visible using visible v on true when matched then delete
prepare p as select * from warehouse.main.secret
execute p
deallocate p
explain select * from warehouse.main.secret
explain analyze select 1
vacuum
analyze
checkpoint
force checkpoint
call pragma_version()
call enable_logging()
call duckdb_settings()
pivot visible on code using sum(amount)
select * from (pivot visible on code using sum(amount))
unpivot visible on amount
describe visible
describe warehouse.main.secret
summarize warehouse.main.secret
show tables
show all tables
show databases
select * from (describe warehouse.main.secret)
select * from (summarize secret)
select * from (show all tables)
.read {file}
\copy visible to '{file}.out'

-- settings and variables
set enable_external_access = true
set lock_configuration = false
set global memory_limit = '100GB'
set threads = 64
set temp_directory = '/tmp'
set home_directory = '/'
set allowed_directories = ['/']
set variable x = 1
reset enable_external_access
reset all
pragma enable_external_access
pragma database_list
pragma table_info('secret')
pragma show_tables
pragma storage_info('secret')
pragma enable_profiling = 'json'
pragma profiling_output = '{file}.out'
pragma log_query_path = '{file}.out'
select current_setting('secret_directory')
select current_setting('enable_external_access')
select getvariable('x')
select getenv('PATH')
select * from duckdb_settings()
select * from duckdb_variables()
select set_config('threads', '8')

-- the catalog, other sessions, the process
select * from duckdb_databases()
select path from duckdb_databases()
select * from duckdb_tables()
select * from duckdb_columns()
select * from duckdb_views()
select sql from duckdb_views()
select * from duckdb_schemas()
select * from duckdb_functions()
select * from duckdb_extensions()
select * from duckdb_logs
select * from duckdb_logs()
select * from duckdb_memory()
select * from duckdb_temporary_files()
select * from duckdb_external_file_cache()
select * from duckdb_prepared_statements()
select * from duckdb_connection_count()
select * from duckdb_tables
select * from duckdb_views
select * from information_schema.tables
select * from information_schema.columns
select * from pg_catalog.pg_tables
select * from pg_class
select * from pg_views
select * from pg_settings
select * from sqlite_master
select * from sqlite_schema
select * from pragma_database_size()
select * from pragma_table_info('secret')
select * from pragma_storage_info('secret')
select * from pragma_metadata_info()
select * from pragma_show('secret')
select * from pragma_version()
select * from pragma_platform()
select * from pragma_user_agent()
select pg_get_viewdef(1)
select pg_get_expr('x', 1)
select current_query()
select current_schemas(true)
select in_search_path('memory', 'main')
select has_table_privilege('secret', 'select')
select txid_current()
select current_connection_id()
select inet_server_addr()
select version()
select stats(code) from visible
select pg_sleep(1)
select sleep_ms(1000)
select write_log('x')
select parse_duckdb_log_message('QueryLog', 'x')
select nextval('s')
select currval('s')
select setseed(0.5)
select checkpoint()
select * from checkpoint()
select * from force_checkpoint()
select enable_logging()
select * from enable_logging()
select * from disable_logging()
select * from truncate_duckdb_logs()
select * from enable_profiling()
select * from test_all_types()
select * from icu_calendar_names()
select * from seq_scan('secret')
select * from arrow_scan(1, 2, 3)
select * from arrow_scan_dumb(1, 2, 3)
select * from pandas_scan(1)
select * from python_map_function(1)
select * from summary((select 1))
select * from repeat_row(1, num_rows = 10)
select __internal_decompress_string(1)

-- SQL in text
select * from query('select * from warehouse.main.secret')
select * from query_table('secret')
select * from query_table(['secret', 'visible'])
from query('from read_text(''{file}'')')
select json_execute_serialized_sql('x')
select * from json_execute_serialized_sql(json_serialize_sql('select * from warehouse.main.secret'))
select json_serialize_sql('select 1')
select json_deserialize_sql('x')
select json_serialize_plan('select * from warehouse.main.secret')
select sql_auto_complete('select')
select * from sql_auto_complete('select ')
select * from from_substrait('x'::blob)
select eval('1')

-- tables and columns that are not the role's
select * from secret
select * from SECRET
select * from "Secret"
select * from main.secret
select * from memory.main.visible
select * from warehouse.secret
select * from warehouse.main.secret
select * from warehouse.main.visible
select * from "warehouse"."main"."secret"
select * from system.main.duckdb_tables
select (select max(word) from secret)
select * from visible where exists (select 1 from secret)
select * from visible v join secret s on true
select * from visible, warehouse.main.secret
with secret2 as (select * from secret) select * from secret2
with secret as (select 1) select * from secret union all select * from warehouse.main.secret
select * from (with secret as (select 1 as x) select * from secret) a, secret
select (with secret as (select 1 as x) select x from secret), (select max(word) from secret)
with duckdb_tables as (select 1) select * from duckdb_tables
with a as (with duckdb_views as (select 1 x) select * from duckdb_views) select * from a, duckdb_views
with pg_tables as (select 1 x) select * from pg_tables
with "duckdb_settings" as materialized (select 1) from duckdb_settings
with recursive secret as (select 1 n union all select n + 1 from warehouse.main.secret) select * from secret
with x as (select * from y), y as (select * from secret) select * from x
with secret as (select * from secret) select * from secret
select hidden from visible
select visible.hidden from visible
select v.hidden from visible v
select * from visible where hidden is not null
select * from visible order by hidden
select max(hidden) over () from visible
select columns('hidden') from visible
select columns(c -> c = 'hidden') from visible
select rowid from visible
select visible.rowid from visible
select * exclude (code) replace (hidden as amount) from visible
select * from visible at (version => 1)
select * from visible at (timestamp => now())
select amount from visible group by hidden
select * from visible natural join secret
select * from visible positional join secret
select * from visible semi join secret on true
select struct_pack(a := (from secret))
select array(select word from secret)
select any_value(word) from (from secret)
select * from secret tablesample 100%
select $1
select ?
select $name

-- types, names and other looks
select cast('x' as secret)
select cast(1 as main.secret)
select null::warehouse.main.t
select default
select 1 from visible where 1 = any(select 1 from secret)
select lower.main.read_text('{file}')
select ('{file}').read_text()
select '{file}'.read_text()
select 'secret'.query_table()
select * from unnest((select array_agg(word) from secret))
select * from range((select count(*) from secret))
select * from generate_series(1, (select count(*) from secret))
select unnest((select list(word) from secret))

-- rows that a filter hides, told by an error
select * from visible where cast(case when code = 'shut' then 'CANARY-' || amount else '1' end as integer) = 1
select cast(code as integer) from visible where code <> 'open'
select count(*) from visible where code::integer > 0 and code = 'shut'
