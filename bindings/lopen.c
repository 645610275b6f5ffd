/* SPDX-License-Identifier: MIT
 *
 * lopen.c - the roof of the bindings: opens the core module, one engine for each Lua state, and closes
 * it with the state.
 */
#include "base/lfinalize.h"
#include "base/lmodules.h"
#include "codec/lcodec.h"
#include "lopen.h"
#include "task/ltask.h"

#include <unistd.h>

#define FUNCTIONS_ABOUT 180 /* in the core module */

/* The parts of the library, by rooms, lower ones first: of each the module that its file ends with. */
#define BELOW_KINDS(X)                                                                             \
    X(system) /* base */                                                                           \
    X(random)                                                                                      \
    X(object)                                                                                      \
    X(message) /* codec */                                                                         \
    X(task)    /* task */                                                                          \
    X(coroutine)                                                                                   \
    X(require)                                                                                     \
    X(waitlist)                                                                                    \
    X(turn)                                                                                        \
    X(coqueue)                                                                                     \
    X(offload)                                                                                     \
    X(suspend)                                                                                     \
    X(host_tasks)                                                                                  \
    X(struct) /* shared */                                                                         \
    X(struct_ref)

#define ABOVE_KINDS(X)                                                                             \
    X(directory) /* shared */                                                                      \
    X(sharedmemory)                                                                                \
    X(pool)        /* pool */                                                                      \
    X(descriptors) /* io */                                                                        \
    X(names)                                                                                       \
    X(http)                                                                                        \
    X(curl)                                                                                        \
    X(httpd)                                                                                       \
    X(httpd_request)                                                                               \
    X(httpd_answer)                                                                                \
    X(websocket)                                                                                   \
    X(poll)                                                                                        \
    X(socket)                                                                                      \
    X(socket_class)                                                                                \
    X(socket_patched)                                                                              \
    X(select)                                                                                      \
    X(subprocess)                                                                                  \
    X(passing)                                                                                     \
    X(hmac)                                                                                        \
    X(envelope)                                                                                    \
    X(logfile)                                                                                     \
    X(syslog)                                                                                      \
    X(notify)                                                                                      \
    X(link)                                                                                        \
    X(connect)                                                                                     \
    X(beat)                                                                                        \
    X(redis)                                                                                       \
    X(luv)                                                                                         \
    X(view) /* process */                                                                          \
    X(ask)                                                                                         \
    X(tracer)                                                                                      \
    X(terminal)                                                                                    \
    X(editor)                                                                                      \
    X(history)                                                                                     \
    X(answer)                                                                                      \
    X(signal)                                                                                      \
    X(process)                                                                                     \
    X(spawn)                                                                                       \
    X(shutdown)                                                                                    \
    X(title)                                                                                       \
    X(output)

#define DECLARE(name) extern const lmpe_module lmpe_##name##_module;
BELOW_KINDS(DECLARE)
ABOVE_KINDS(DECLARE)

#define ADDRESS(name) &lmpe_##name##_module,

/* Each kind of shared object has the module that is named after its moves. */
#define DECLARE_KIND(name, number, text, moves) DECLARE(moves)
#define ADDRESS_KIND(name, number, text, moves) ADDRESS(moves)
MPE_KIND_MAP(DECLARE_KIND)

static const lmpe_module *const modules[] = {BELOW_KINDS(ADDRESS) MPE_KIND_MAP(ADDRESS_KIND)
                                                 ABOVE_KINDS(ADDRESS) NULL};

/* At lua_close, behind all finalizers of what was made after the library. Those of what was made before
 * it come later, and with them all there is of the library, which from here on says that it is closed
 * (lmpe_self) or does what Lua's own functions do. */
static int
state_gc(lua_State *L)
{
    lmpe **box = lmpe_finalized(L, NULL, sizeof *box);
    if (!box || !*box)
        return 0;
    lmpe_close_state(L, *box);
    lmpe_give_back(*box);
    return 0;
}

void
lmpe_close_state(lua_State *L, lmpe *S)
{
    mpe_engine *e = S->e;
    if (!e)
        return;
    lmpe_layout_remove(S);
    lmpe_modules_close(L, S);
    lua_pushnil(L);
    lua_setfield(L, LUA_REGISTRYINDEX, "mpengine.state");
    S->e = NULL;
    if (!S->is_guest)
        mpe_close(e);
    for (int i = 0; i < LMPE_SCRATCHES; i++)
        mpe_buf_free(&S->scratches[i]);
}

/* Raises when one of them is wrong, used or not. */
static void
check_variables(lua_State *L)
{
    char message[200];
    if (mpe_variables_check(message, sizeof message) != MPE_OK)
        luaL_error(L, "mpengine: %s", message);
}

/* What the library is written with; other libraries it has copies of, if the state has none. */
static void
check_libraries(lua_State *L)
{
    static const char *const needed[] = {"string", "coroutine", "package"};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        if (lua_getglobal(L, needed[i]) != LUA_TTABLE)
            luaL_error(L, "mpengine needs Lua's library '%s', which is not open in this state",
                       needed[i]);
        lua_pop(L, 1);
    }
}

/* The command has left a mark for those of its commands that look into other programs. */
static int
open_engine(lua_State *L, mpe_engine **out)
{
    mpe_config c = MPE_CONFIG_INIT;
    uint64_t value;
    const char *name;
    if (lua_getfield(L, LUA_REGISTRYINDEX, "mpengine.reader") != LUA_TNIL)
        c.flags |= MPE_READER;
    lua_pop(L, 1);
    if (mpe_variable_get(MPE_VARIABLE_ARENA, &value, &name) == MPE_OK)
        c.arena = name;
    return mpe_open(&c, out);
}

static lmpe *
new_state(lua_State *L)
{
    lmpe **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, state_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_setfield(L, LUA_REGISTRYINDEX, "mpengine.sentinel");
    lmpe *S = lmpe_allocate();
    if (!S)
        luaL_error(L, "out of memory");
    *box = S;
    for (int i = 0; i < LMPE_SCRATCHES; i++)
        mpe_buf_init(&S->scratches[i]);
    S->scratch = S->scratches;
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    S->open_core = luaopen_mpengine_core;
    S->main = S->driver = lua_tothread(L, -1);
    lua_pop(L, 1);
    S->e = lmpe_host_engine(L);
    S->is_guest = S->e != NULL;
    int rc = S->is_guest ? MPE_OK : mpe_attach(NULL, &S->e);
    if (rc == MPE_ESTALE) /* the starter of this process has exited already */
        _exit(1);
    if (S->is_guest || rc == MPE_ENOENT)
        check_variables(L);
    if (rc == MPE_ENOENT) /* no other process of a program has started this one */
        rc = open_engine(L, &S->e);
    if (rc != MPE_OK)
        lmpe_raise(L, rc, "mpengine: cannot make the shared arena, a file of memfd_create");
    lua_pushlightuserdata(L, S);
    lua_setfield(L, LUA_REGISTRYINDEX, "mpengine.state");
    return S;
}

int
luaopen_mpengine_core(lua_State *L)
{
    if (lmpe_push_known(L, "mpengine.core"))
        return 1;
    check_libraries(L);
    lmpe_add_modules(L);
    lmpe *S = new_state(L);
    lua_createtable(L, 0, FUNCTIONS_ABOUT);
    lmpe_modules_open(L, S, modules);
    lmpe_layout_add(S);
    luaopen_mpengine_codec(L);
    lua_pushvalue(L, -1);
    lmpe_set_loaded(L, "mpengine.codec");
    lua_setfield(L, -2, "codec");
    lua_pushboolean(L, lmpe_plain_is_used());
    lua_setfield(L, -2, "codec_reads_memory");
    lua_pushcfunction(L, lmpe_codec_register);
    lua_setfield(L, -2, "register");
    lua_pushliteral(L, MPE_VERSION);
    lua_setfield(L, -2, "version");
    lmpe_copy_globals(L); /* with what has been replaced meanwhile */
    lmpe_push_globals(L);
    lua_setfield(L, -2, "globals");
    lmpe_push_hooks(L);
    lua_setfield(L, -2, "hooks");
    lmpe_push_modules(L);
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, "mpengine.core");
    lua_setfield(L, -2, "modules");
    return 1;
}
