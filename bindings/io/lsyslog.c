/* SPDX-License-Identifier: MIT
 *
 * lsyslog.c - the system's log: syslog of the C library, and the journal of libsystemd, which is
 * opened at the first use. Both send a datagram, and block while the service takes none.
 */
#include "base/lmpe.h"
#include "base/lsystem.h"
#include "io/lload.h"

#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <syslog.h>

#define FIELDS_MAX 16

static struct {
    int (*sendv)(const struct iovec *fields, int n);
} journald;

static struct lmpe_load_once loaded = LMPE_LOAD_ONCE;

/* syslog keeps the address. */
static char ident[64];
static pthread_mutex_t ident_lock = PTHREAD_MUTEX_INITIALIZER;

/* syslog(ident, priority, text) */
static int
to_syslog(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    int priority = (int)luaL_checkinteger(L, 2);
    size_t n;
    const char *text = luaL_checklstring(L, 3, &n);
    pthread_mutex_lock(&ident_lock);
    if (strncmp(ident, name, sizeof ident - 1) != 0) {
        snprintf(ident, sizeof ident, "%s", name);
        openlog(ident, 0, LOG_USER);
    }
    syslog(priority, "%.*s", (int)n, text);
    pthread_mutex_unlock(&ident_lock);
    return 0;
}

static void
load(char *error)
{
    static const struct lmpe_load_name names[] = {{"sd_journal_sendv", 0}, {NULL, 0}};
    lmpe_load_library("libsystemd.so.0", "the journal", names, &journald, error);
}

/* journal([fields]): a list of texts NAME=value; without it only whether there is one */
static int
to_journal(lua_State *L)
{
    struct iovec fields[FIELDS_MAX];
    int n = 0;
    const char *why = lmpe_load_first(&loaded, load);
    if (why)
        return luaL_error(L, "%s", why);
    if (lua_isnoneornil(L, 1))
        return 0;
    for (; n < FIELDS_MAX && lua_rawgeti(L, 1, n + 1) == LUA_TSTRING; n++) {
        size_t size;
        const char *field = lua_tolstring(L, -1, &size);
        fields[n] = (struct iovec){(void *)(uintptr_t)field, size};
    }
    int rc = journald.sendv(fields, n);
    return rc < 0 ? luaL_error(L, "the journal: %s", lmpe_reason(-rc)) : 0;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"syslog", to_syslog}, {"journal", to_journal}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_syslog_module = {.open = on_open};
