/* A peer of the shared dict: LMDB with the data of dict.h. What `get` hands out is the caller's.
 * `get` in one read transaction renewed for each key; `set` in one write transaction each, without
 * sync. ns per operation. */
#include <lmdb.h>
#include <unistd.h>

#include "dict.h"

static MDB_env *env;
static MDB_dbi dbi;
static MDB_txn *reader;

static void
must(int status)
{
    if (status == 0)
        return;
    fprintf(stderr, "lmdb: %s\n", mdb_strerror(status));
    exit(1);
}

static void
put(MDB_txn *txn, char *key)
{
    MDB_val k = {KEY, key}, v = {VALUE, value};
    must(mdb_put(txn, dbi, &k, &v, 0));
}

static void
get(long n)
{
    char seen[VALUE];
    for (long i = 0; i < n; i++) {
        MDB_val k = {KEY, keys[i % COUNT]}, v;
        mdb_txn_reset(reader);
        must(mdb_txn_renew(reader));
        must(mdb_get(reader, dbi, &k, &v));
        memcpy(seen, v.mv_data, v.mv_size);
        __asm__ volatile("" : : "r"(seen) : "memory"); /* it is used */
    }
}

static void
set(long n)
{
    for (long i = 0; i < n; i++) {
        MDB_txn *txn;
        must(mdb_txn_begin(env, NULL, 0, &txn));
        put(txn, keys[i % COUNT]);
        must(mdb_txn_commit(txn));
    }
}

/* The files live in memory and are unlinked as soon as they are open. */
static void
open_store(void)
{
    char dir[] = "/dev/shm/bench-lmdb-XXXXXX", data[64], lock[64];
    bench_check(mkdtemp(dir) != NULL, "mkdtemp");
    snprintf(data, sizeof data, "%s/data.mdb", dir);
    snprintf(lock, sizeof lock, "%s/lock.mdb", dir);
    must(mdb_env_create(&env));
    must(mdb_env_set_mapsize(env, (size_t)256 << 20));
    int status = mdb_env_open(env, dir, MDB_NOSYNC | MDB_WRITEMAP, 0600);
    unlink(data);
    unlink(lock);
    rmdir(dir);
    must(status);
}

int
main(int argc, char **argv)
{
    if (argc != 2)
        return fprintf(stderr, "usage: lmdb get|set\n"), 2;
    make_keys();
    open_store();
    MDB_txn *txn;
    must(mdb_txn_begin(env, NULL, 0, &txn));
    must(mdb_dbi_open(txn, NULL, 0, &dbi));
    for (int i = 0; i < COUNT; i++)
        put(txn, keys[i]);
    must(mdb_txn_commit(txn));
    must(mdb_txn_begin(env, NULL, MDB_RDONLY, &reader));
    if (strcmp(argv[1], "get") == 0) {
        bench_ns(get, 1000);
    } else {
        mdb_txn_abort(reader);
        bench_ns(set, 1000);
    }
}
