/* SPDX-License-Identifier: MIT
 *
 * lmpe.h - the door of the room base, the lowest. The room owns the state of a Lua universe and
 * the list of its modules, the userdata and metatables of shared objects, and the library's own Lua
 * modules. It offers what every room needs: here the state, deadlines, counts and errors; beside
 * it lcheck.h (messages about wrong arguments), lobject.h (shared objects, shared memory and the
 * collector), lmodules.h (Lua modules, and the hooks that C calls), lsite.h (places in the script),
 * lsystem.h (the process) and lfinalize.h (finalizers). A file includes those that it uses.
 *
 * Every C function of the module has the lmpe state as its first upvalue; methods of a type have
 * the type's metatable as the second.
 */
#ifndef LMPE_H
#define LMPE_H

#include <lauxlib.h>
#include <lua.h>

#include "base/lcheck.h" /* which must come with lauxlib.h: it replaces functions of it */
#include "mpengine_core.h"

typedef struct lmpe lmpe;
typedef struct lmpe_task lmpe_task;

/* How much of its turn the current task has left: lturn.c. */
struct lmpe_turn {
    int left; /* units until the next clock reading */
    uint32_t used;
    uint64_t began; /* 0: the clock was not read yet */
};

#define LMPE_SCRATCHES 4

struct lmpe {
    mpe_engine *e;
    lua_CFunction open_core;
    const struct lmpe_module *const *modules, *const *modules_end;
    lua_State *main; /* the state's main thread */
    lmpe_task *main_task, *current;
    lmpe_task *callback; /* current while the loop runs what is no task: the host's callbacks */
    lua_State *driver;   /* the thread that drives the loop now; tasks are resumed from it */
    struct lmpe_turn turn;
    const uint64_t *clock;  /* mpe_loop_clock */
    const uint64_t *trace;  /* mpe_trace_word */
    struct lmpe_told *told; /* ltrace.c; NULL: nothing yet */
    uint32_t unseen_tasks;  /* for a process without such a word */
    uint32_t *shown_tasks;  /* mpe_self_tasks: the main one, and the script's that have not ended */
    uint32_t live_tasks;
    uint32_t anchor_free; /* first free place for a task, see ltask.c */
    uint32_t anchor_top;
    uint32_t ended_tasks;
    uint64_t host_tasks; /* spawned so far by the host: lhost_tasks.c */
    const struct lmpe_box_calls *calls[MPE_KIND_COUNT];
    uint32_t boxes, armed_boxes; /* shared objects made so far; when the end was last prepared */
    uint64_t weighed;            /* growth of the arena that the collector has been told */
    uint32_t idle_threads;       /* coroutines kept for reuse */
    struct lmpe_task_wait *spare_wait;
    const struct lmpe_signal_hooks *signals;
    const struct lmpe_callback_hooks *callbacks;
    struct lmpe_loading *loads;   /* lrequire.c */
    struct lmpe_sites *sites;     /* lsite.c; NULL: none yet */
    struct lmpe_places *places;   /* llabel.c; the same */
    struct lmpe_structs *structs; /* lstruct.c; the same */
    struct lmpe_ticker *ticker;   /* lcancel.c */
    uint32_t switches;            /* how often a task was run, or ran on after a wait */
    volatile int answers;         /* a reader waits: each task that runs is hooked */
    int pauses;                   /* an answer goes on after LMPE_TICK_INSTRUCTIONS: lanswer.c */
    int yielded;                  /* a task is yielding to the scheduler */
    int drive_depth;
    int resetting; /* lua_resetthread runs close handlers */
    struct lmpe_link *links;
    mpe_buf *scratch; /* the last encoding; used before anything can allocate Lua memory */
    mpe_buf scratches[LMPE_SCRATCHES]; /* one for each nested encoding */
    int encoding;
    mpe_object **passed; /* descriptors in the last messages, held: ldescriptor.c */
    uint32_t passed_count, passed_room;
    uint64_t *kept; /* queues of items that could not be received: lmessage_kept.c */
    uint32_t kept_count, kept_room;
    int item_is_kept;                    /* between attempt and finish of a get */
    uint8_t header[MPE_WIRE_STR_HEADER]; /* of a string that is put without a copy */
    size_t header_len;
    mpe_message message; /* between attempt and finish of a get */
    int is_guest;        /* the engine is the host's */
    int outlives;        /* which was closed before the state */
    int stopped;         /* a pool stops the task that waits in the main task */
    int is_command;      /* the mpengine command, which handles the end of the program */
    int is_host;         /* this universe is inside a program that is not of Lua alone */
    int is_program;      /* it has print, the exit and signals: no host, or one that says so */
    void (*print_error)(lmpe *S, const char *text, size_t n); /* loutput.c */
    struct lmpe_child *children;                              /* lprocess.c: the running ones */
    struct lmpe_child *spare_children;
    uint32_t ended_children;       /* so far */
    int tells_ends;                /* a signal reports their exits */
    struct lmpe_output *output;    /* loutput.c */
    struct lmpe_curl *curl;        /* lcurl.c */
    struct lmpe_logfile *logfiles; /* llogfile.c */
    struct lmpe_httpd *httpds;     /* lhttpd.c */
    struct lmpe_luv *luv;          /* lluv.c; NULL: it was not loaded, or has a loop of its own */
    struct lmpe_task_wait *main_wait; /* of the main task, whether it is in use or not */
    uint8_t *room, *room_end;         /* for lmpe_place */
    lmpe *next_open;                  /* llayout.c: of the states that are open */
    lmpe *spare;                      /* once closed: the next that was closed */
};

/* Zeroed memory that is near S and lives as long, or NULL. Memory that every start of a process
 * writes to, in the parent and in the child, belongs on few pages: each is copied once per fork. */
void *lmpe_place(lmpe *S, size_t size);
/* The memory of a state, zeroed, or NULL; of one that was closed, if this thread has such. */
lmpe *lmpe_allocate(void);
/* It is closed. Its memory stays readable and is reused for the next state of this thread. */
void lmpe_give_back(lmpe *S);

/* The state of this universe, closed or not (S->e is NULL then); inside functions that have it
 * as upvalue 1. For functions that work without the engine too: finalizers, and replacements of
 * Lua's own functions. */
static inline lmpe *
lmpe_self_or_closed(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* Raises "the library is closed". */
lmpe *lmpe_raise_closed(lua_State *L);

/* The same, for all other functions: raises when the state is closed. */
static inline lmpe *
lmpe_self(lua_State *L)
{
    lmpe *S = lmpe_self_or_closed(L);
    return S->e ? S : lmpe_raise_closed(L);
}

/* A part of the library. lopen.c has the list of them. Each function may be NULL. */
typedef struct lmpe_module {
    /* Adds its functions to the table on top of the stack. */
    void (*open)(lua_State *L, lmpe *S);
    /* In a child that was forked: drops everything that belongs to the parent. */
    void (*forked)(lua_State *L, lmpe *S);
    /* The Lua state is being closed; the engine is still there. */
    void (*close)(lua_State *L, lmpe *S);
} lmpe_module;

/* The modules of a state, lower rooms first; the last is NULL. They are opened in this order, each
 * at its first place; the other two functions run in reverse order. */
void lmpe_modules_open(lua_State *L, lmpe *S, const lmpe_module *const *modules);
void lmpe_modules_forked(lua_State *L, lmpe *S);
void lmpe_modules_close(lua_State *L, lmpe *S);

/* The state of a universe, where it is no upvalue; NULL once it is closed. */
lmpe *lmpe_of(lua_State *L);

/* Is this state a host's, and not that of a program? lembed.c has left a mark in its registry. */
#define LMPE_HOST "mpengine.host"
int lmpe_is_hosted(lua_State *L);

/* Says what no call returns, such as the error of a task: the string on top of L, which is popped.
 * In a host it goes to the log of the engine (mpe_config.log), if there is one; otherwise to
 * stderr. level: of enum mpe_log_level. */
void lmpe_report(lua_State *L, lmpe *S, int level);

/* Registers functions with the state as upvalue into the table on top. */
void lmpe_setfuncs(lua_State *L, lmpe *S, const luaL_Reg *funcs);

/* ---- arguments and errors: lmpe.c --------------------------------------------------------- */

/* Seconds at idx as a deadline: absent or nil: forever, 0: no wait; NaN or negative raises. */
uint64_t lmpe_given_deadline(lua_State *L, int idx);
static inline uint64_t
lmpe_check_deadline(lua_State *L, int idx)
{
    return lua_gettop(L) < idx ? MPE_FOREVER : lmpe_given_deadline(L, idx);
}
uint64_t lmpe_deadline_in(double seconds);
/* An integer in a range; what names it in the message. */
lua_Integer lmpe_check_count(lua_State *L, int idx, lua_Integer min, lua_Integer max,
                             const char *what);
/* The state, with the library loaded; raises when that fails. */
lmpe *lmpe_load(lua_State *L);
/* Raises for a status that is misuse or a failure; where names the call. */
int lmpe_raise(lua_State *L, int status, const char *where);

#endif
