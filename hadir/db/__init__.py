"""What must survive: the pool, the queries, the migrations."""
