/* SPDX-License-Identifier: MIT
 *
 * mpengine_lua.h - mpengine in a host's own Lua state.
 *
 * Link libmpengine_lua and libmpengine (mpengine-lua.pc). After mpe_lua_open, `require "mpengine"` works in L: the
 * Lua modules are in the library. (A Lua that does not take their bytecode reads their files, found
 * by package.path.) Open the standard library before it.
 *
 *     uv_loop_t loop;
 *     mpe_config config = MPE_CONFIG_INIT;
 *     config.loop = &loop;
 *     mpe_open(&config, &engine);
 *     mpe_lua_open(L, engine);
 *     luaL_dofile(L, "script.lua");        -- its waits drive the loop
 *     lua_close(L);
 *     mpe_close(engine);
 */
#ifndef MPENGINE_LUA_H
#define MPENGINE_LUA_H

#include "mpengine.h"

#ifdef __cplusplus
extern "C" {
#endif

#include <lua.h>

/* Makes `require "mpengine"` work in L, for good; a second call with the same engine does nothing.
 * print, io, os.exit and signals stay as they are, unless the engine was opened with
 * MPE_LUA_PROGRAM: then they are as in the command until the state is closed, when the host gets
 * back the signals. With engine NULL the state makes an engine of
 * its own when the module is first required, and closes it with the state.
 * Ownership: an engine given here stays the host's. It is best closed after L; closed before, it
 * closes the library, whose calls raise from then on, and L can be closed later.
 * Threads: the one that opened the engine.
 * Errors: EINVAL (L is NULL), EEXIST (the engine has another state, or the state another engine),
 * EPERM (another thread's engine), ENOMEM. */
MPE_API int mpe_lua_open(lua_State *L, mpe_engine *engine);
/* Returns the engine of a state, for a C module that a script requires too; NULL: it has none (yet),
 * or it is closed.
 * Ownership: the engine is the state's or the host's.
 * Threads: the engine's. */
MPE_API mpe_engine *mpe_lua_engine(lua_State *L);

/* Pushes the userdata of a shared object; loads the library if it is not.
 * Ownership: the userdata has a hold of its own.
 * Threads: the engine's.  Errors: raises Lua's memory error, and for an object that is gone. */
MPE_API void mpe_lua_push(lua_State *L, mpe_object *o);
/* Returns the object of the userdata at an index, NULL when it is none.
 * Ownership: valid while the value is; mpe_hold keeps it.
 * Threads: the engine's. */
MPE_API mpe_object *mpe_lua_to(lua_State *L, int index);
/* Appends the n values on top of the stack to out, as one message, and pops them. On an error they
 * are popped, a text is pushed, and out is as before.
 * Threads: the engine's.  Errors: EINVAL, ETYPE, ERANGE, ENOMEM. */
MPE_API int mpe_lua_encode(lua_State *L, int n, mpe_buf *out);
/* Pushes the values of a message and returns how many. On an error a text is pushed instead.
 * Threads: the engine's.  Errors: EINVAL, ECORRUPT, ETYPE, ESTALE, ENOMEM. */
MPE_API int mpe_lua_decode(lua_State *L, const void *data, size_t size);

typedef uint64_t
    mpe_task; /* a number, not an address: harmless when the task has ended; 0 is none */
/* Is told once, from the loop, how a task of mpe_lua_spawn has ended; its results are at 1 to
 * nresults of L. OK: what it returned. EINVAL: it raised an error, which is followed by its
 * traceback. ECANCELED: it was killed, with that error and an empty text; or the state is being
 * closed, with none. It may wait, as any callback of the host. */
typedef void (*mpe_lua_done)(lua_State *L, void *ud, int status, int nresults);
/* Spawns a task from the function and the n arguments on top of L, which are popped, whatever the
 * outcome. done may be NULL: an error is then reported, as that of co.spawn. *out may be NULL.
 * Blocks: no; the task starts, and done is called, from the loop.
 * Threads: the engine's.
 * Errors: EINVAL, EPERM (nothing is popped by these), ETYPE (not a function), ENOMEM, ECLOSED. */
MPE_API int mpe_lua_spawn(lua_State *L, int n, mpe_lua_done done, void *ud, mpe_task *out);
/* Kills a task, with a reason or NULL, as task:kill in Lua. One that has not started never does.
 * Blocks: no; the task ends from the loop.
 * Threads: the engine's.
 * Errors: EINVAL, EPERM, ESTALE (it has ended), ENOMEM, ECLOSED. */
MPE_API int mpe_lua_kill(lua_State *L, mpe_task task, const char *reason);
/* Calls the function below the n arguments on top of L in a task, and waits for its end: as lua_pcall,
 * but what it calls may wait. On an error two values take the place of the function and its
 * arguments, whatever nresults is: the error and its traceback, which may be empty.
 * Blocks: up to the deadline (mpe_now), at which the task is cancelled; MPE_NOW, or one that has
 * passed: up to its first wait. Other tasks go on meanwhile.
 * Threads: the engine's.
 * Errors: EINVAL (it raised the error; or a wrong argument: the stack stays), ETIMEDOUT, ECANCELED
 * (it was killed), EDEADLK (every task waits for what can never come, and the text lists the
 * lines; or called inside a Lua task), EINTR, EPERM (the stack stays), ENOMEM, ECLOSED. */
MPE_API int mpe_lua_call(lua_State *L, int n, int nresults, uint64_t deadline);

/* A C function that suspends the calling task and is finished later:
 *
 *     static int fetch(lua_State *L) { return mpe_lua_suspend(L, &fetch_ops, new_request(L)); }
 */
typedef uint64_t mpe_call; /* the number of a call, never used twice; 0 is none */
/* What a suspended call does. After start exactly one of push and cancel is called, by the engine's
 * thread, which frees ud. */
typedef struct mpe_call_ops {
    /* Begins the work, which may finish at once, from the loop, from any thread, or never. A
     * negative status: nothing was begun, and push gets it. */
    int (*start)(mpe_engine *e, mpe_call c, void *ud);
    /* In the task, with the status of the finish: pushes results and returns their number, or
     * raises. */
    int (*push)(lua_State *L, int status, void *ud);
    /* The task was killed, or its scope timed out, or the state is being closed; also when start
     * was not called, since the call could not begin (then c may be 0). */
    void (*cancel)(mpe_engine *e, mpe_call c, void *ud);
} mpe_call_ops;
/* Suspends the calling task: the value of a C function. Works in the main chunk, tasks, coroutines
 * of the script and pcall, and loads the library if it is not; while a call is pending, waiting is
 * no deadlock.
 * Ownership: ops must stay; ud is freed by push or cancel.
 * Blocks: the task, not the others.
 * Threads: the engine's.  Errors: raises. */
MPE_API int mpe_lua_suspend(lua_State *L, const mpe_call_ops *ops, void *ud);
/* Finishes a suspended call with a status for push.
 * Threads: any.
 * Errors: EINVAL, ESTALE (finished before, or cancelled: nothing happens), ENOMEM, ECLOSED. */
MPE_API int mpe_call_finish(mpe_engine *e, mpe_call c, int status);

#ifdef __cplusplus
}
#endif

#endif
