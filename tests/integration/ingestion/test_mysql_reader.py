"""smoke"""

from tests.integration.ingestion.conftest import rejects
from tests.integration.ingestion.mysql_source import MysqlSource


def test_smoke(mysql: MysqlSource) -> None:
    mysql.run(
        "CREATE TABLE t (id int primary key, v varchar(10), d date, n decimal(65,30)); INSERT INTO t VALUES (1,'a','2020-01-01',1.5),(2,'b','0000-00-00',2),(3,null,null,null);"
    )
    spec = mysql.spec("id: int32; v: string; d: date; n: string")
    staged = mysql.stage(spec)
    print(mysql.rows(staged), rejects(staged), staged.early_rejects.to_pylist())
    with mysql.open(spec) as r:
        print(r.source_checksums(spec.tables[0]))
