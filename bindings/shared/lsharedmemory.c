/* SPDX-License-Identifier: MIT
 *
 * lsharedmemory.c - mp.SharedMemory: named memory in /dev/shm that unrelated programs can open, like
 * Python's multiprocessing.shared_memory. It is outside the arena on purpose: it has a name, and
 * it stays until a program unlinks it. Bytes are copied in and out; nothing here blocks.
 */
#include "base/lfinalize.h"
#include "base/lsystem.h"
#include "base/lmpe.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHM "mp.SharedMemory"
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

typedef struct memory {
    uint8_t *data; /* NULL once closed */
    size_t size;
    int reserved; /* made here; in other memory some pages may have to be reserved yet */
    char name[256];
} memory;

static memory *
check_open(lua_State *L, const char *call)
{
    memory *m = luaL_checkudata(L, 1, SHM);
    if (!m->data)
        luaL_error(L, "SharedMemory:%s: the memory is closed", call);
    return m;
}

static int
fail(lua_State *L, const char *what, const char *name)
{
    int number = errno;
    const char *cause = number == ENOSPC  ? " (/dev/shm is full)"
                        : number == EROFS ? " (/dev/shm)"
                        : number == ENOENT && access("/dev/shm", F_OK) != 0
                            ? " (there is no /dev/shm)"
                            : "";
    return luaL_error(L, "SharedMemory: cannot %s '%s': %s%s", what, name, lmpe_reason(number),
                      cause);
}

static int
map(lua_State *L, memory *m, int fd)
{
    struct stat st;
    int rc = fstat(fd, &st);
    void *p = MAP_FAILED;
    if (rc == 0 && st.st_size > 0)
        p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    int saved = rc == 0 && st.st_size == 0 ? EINVAL : errno;
    close(fd);
    errno = saved;
    if (p == MAP_FAILED)
        return fail(L, "map", m->name);
    m->data = p;
    m->size = (size_t)st.st_size;
    return 1;
}

/* Takes the memory from the system now, so that using it cannot fail. An errno; above the limit of file
 * sizes the kernel would send SIGXFSZ. */
static int
reserve(int fd, lua_Integer size)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && (rlim_t)size > limit.rlim_cur)
        return EFBIG;
    int rc;
    do
        rc = posix_fallocate(fd, 0, size);
    while (rc == EINTR);
    return rc;
}

/* open_shared_memory(name, create, size) -> the memory; name with its leading slash */
static int
open_memory(lua_State *L)
{
    size_t n;
    const char *name = luaL_checklstring(L, 1, &n);
    int create = lua_toboolean(L, 2);
    lua_Integer size = luaL_optinteger(L, 3, 0);
    memory *m = lua_newuserdatauv(L, sizeof *m, 0);
    memset(m, 0, sizeof *m);
    luaL_argcheck(L, n < sizeof m->name && strlen(name) == n, 1, "name: too long, or has a NUL");
    memcpy(m->name, name, n);
    luaL_setmetatable(L, SHM);
    int flags = O_RDWR | O_CLOEXEC | (create ? O_CREAT | O_EXCL : 0);
    int fd = mpe_fd_lift(shm_open(name, flags, 0600));
    if (fd < 0)
        return fail(L, create ? "create" : "open", name);
    int rc = create ? reserve(fd, size) : 0;
    if (rc != 0) {
        close(fd);
        shm_unlink(name);
        errno = rc;
        return fail(L, "create", name);
    }
    m->reserved = create;
    return map(L, m, fd);
}

/* The range of bytes from .. to (1-based, inclusive, to defaulting to last). */
static void
check_range(lua_State *L, const memory *m, int idx, size_t *from, size_t *count)
{
    lua_Integer i = luaL_optinteger(L, idx, 1);
    lua_Integer j = luaL_optinteger(L, idx + 1, (lua_Integer)m->size);
    luaL_argcheck(L, i >= 1, idx, "position must be 1 or more");
    luaL_argcheck(L, j <= (lua_Integer)m->size, idx + 1, "position is beyond the end");
    *from = (size_t)i - 1;
    *count = j >= i ? (size_t)(j - i + 1) : 0;
}

/* Pages that the creator has not reserved are committed before they are used, since a full
 * /dev/shm, or a file that was cut, would cause SIGBUS. */
static void
make_sure(lua_State *L, const memory *m, const char *call, size_t from, size_t count, int advice)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)(m->data + from);
    uintptr_t begin = first & ~(page - 1);
    if (m->reserved || count == 0 || madvise((void *)begin, first + count - begin, advice) == 0 ||
        errno == EINVAL) /* a kernel before 5.14 does not support it */
        return;
    luaL_error(L,
               "SharedMemory:%s: no memory behind these bytes of '%s': /dev/shm is full, or the "
               "memory was cut",
               call, m->name);
}

/* m:read([i [, j]]) -> bytes i .. j */
static int
memory_read(lua_State *L)
{
    memory *m = check_open(L, "read");
    size_t from, count;
    check_range(L, m, 2, &from, &count);
    make_sure(L, m, "read", from, count, MADV_POPULATE_READ);
    lua_pushlstring(L, (const char *)m->data + from, count);
    return 1;
}

/* m:write(bytes [, at]): raises, and changes nothing, when they do not fit */
static int
memory_write(lua_State *L)
{
    memory *m = check_open(L, "write");
    size_t n;
    const char *bytes = luaL_checklstring(L, 2, &n);
    lua_Integer at = luaL_optinteger(L, 3, 1);
    luaL_argcheck(L, at >= 1 && (lua_Unsigned)at <= m->size + 1, 3, "position out of range");
    luaL_argcheck(L, n <= m->size - (size_t)(at - 1), 2, "the bytes do not fit");
    make_sure(L, m, "write", (size_t)at - 1, n, MADV_POPULATE_WRITE);
    memcpy(m->data + at - 1, bytes, n);
    return 0;
}

static int
unmap(memory *m)
{
    if (m->data)
        munmap(m->data, m->size);
    m->data = NULL;
    return 0;
}

/* m:close(): unmaps it in this process; harmless when closed already */
static int
memory_close(lua_State *L)
{
    return unmap(luaL_checkudata(L, 1, SHM));
}

static int
memory_gc(lua_State *L)
{
    memory *m = lmpe_finalized(L, SHM, sizeof *m);
    return m ? unmap(m) : 0;
}

/* m:unlink(): removes the name; the memory is freed with its last mapping */
static int
memory_unlink(lua_State *L)
{
    memory *m = luaL_checkudata(L, 1, SHM);
    if (shm_unlink(m->name) != 0)
        return fail(L, "unlink", m->name);
    return 0;
}

static int
memory_len(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)check_open(L, "size")->size);
    return 1;
}

static int
memory_index(lua_State *L)
{
    memory *m = luaL_checkudata(L, 1, SHM);
    if (luaL_getmetafield(L, 1, "methods") != LUA_TNIL) {
        lua_pushvalue(L, 2);
        if (lua_rawget(L, -2) != LUA_TNIL)
            return 1;
    }
    const char *key = lua_tostring(L, 2);
    if (key && strcmp(key, "name") == 0)
        lua_pushstring(L, m->name + 1);
    else if (key && strcmp(key, "size") == 0 && m->data)
        lua_pushinteger(L, (lua_Integer)m->size);
    else
        lua_pushnil(L);
    return 1;
}

static int
memory_tostring(lua_State *L)
{
    memory *m = luaL_checkudata(L, 1, SHM);
    if (m->data)
        lua_pushfstring(L, SHM ": %s (%I bytes)", m->name + 1, (LUAI_UACINT)m->size);
    else
        lua_pushfstring(L, SHM ": %s (closed)", m->name + 1);
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"open_shared_memory", open_memory}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"read", memory_read},
                                       {"write", memory_write},
                                       {"close", memory_close},
                                       {"unlink", memory_unlink},
                                       {NULL, NULL}};
    static const luaL_Reg meta[] = {
        {"__index", memory_index}, {"__len", memory_len},           {"__gc", memory_gc},
        {"__close", memory_close}, {"__tostring", memory_tostring}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, SHM);
    luaL_setfuncs(L, meta, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "methods");
    lua_pop(L, 1);
}

const lmpe_module lmpe_sharedmemory_module = {.open = on_open};
