from hadir.db.pool import connect

async def test_smoke(database: str, valkey) -> None:
    c = await connect(database, pooler="none")
    await c.execute("insert into mitras(id) values (gen_random_uuid())")
    print(await c.fetch("select * from mitra_presence"))
    await c.execute("update mitra_presence set is_online=true")
    print(await c.fetch("select * from presence_log"))
    print(await c.fetch("select * from mitra_presence"))
    await c.close()
