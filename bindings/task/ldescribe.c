/* SPDX-License-Identifier: MIT
 *
 * ldescribe.c - all tasks of this process for a reader, in pieces: what each waits for, since when, and
 * its stack. There may be very many, and the program is held meanwhile, so no Lua value is made for
 * a task: the collector would have to look at all of the program for them. A piece is records, of
 * which a reader (mpengine/look/tasks.lua) makes tables:
 *
 *     T size bytes                  a text; texts count from 1
 *     G ... see add_group           what tasks have in common; groups count from 1
 *     t number group waited         a task
 *
 * A text or a group is written when its first task needs it. Two are the same when 64 bits of hash of
 * their bytes are: what is kept between two pieces refers to nothing of the program's.
 */
#include "base/lhash.h"
#include "base/lrelease.h"
#include "base/lmodules.h"
#include "base/lsite.h"
#include "task/ldescribe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DESCRIPTION "mpengine.description"
#define LEVELS 40     /* innermost ones of a stack */
#define CLOCK_EVERY 8 /* tasks between two looks at the clock */
#define TABLE_MIN 64u
#define ASKED 1000u /* objects that say what they are */
#define KEPT 65536u /* bytes of a piece that are kept for the next one */

/* ---- what was written before: hash -> number ---- */

struct table {
    struct entry {
        uint64_t hash;
        uint32_t number; /* 0: free */
    } * at;
    uint32_t size, used; /* a power of two, at most half used */
};

struct lmpe_description {
    lua_State *L; /* for errors */
    mpe_buf out;
    struct table texts, stacks, groups;
    uint32_t text_count, group_count;
    uint32_t place; /* in the table of anchors, where it goes on */
    uint32_t described, asked;
    uint32_t numbers[LMPE_DEPENDS]; /* of one task */
};

static struct entry *
entry_of(struct table *t, uint64_t hash)
{
    uint32_t i = (uint32_t)(hash >> 32) & (t->size - 1);
    while (t->at[i].number && t->at[i].hash != hash)
        i = (i + 1) & (t->size - 1);
    return &t->at[i];
}

static void
grow(lua_State *L, struct table *t)
{
    struct table old = *t, more = {NULL, old.size ? old.size * 2 : TABLE_MIN, old.used};
    more.at = calloc(more.size, sizeof *more.at);
    if (!more.at)
        luaL_error(L, "out of memory");
    for (uint32_t i = 0; i < old.size; i++)
        if (old.at[i].number)
            *entry_of(&more, old.at[i].hash) = old.at[i];
    free(old.at);
    *t = more;
}

/* The place of the number of what has that hash; 0 there: it is new, and counts once the caller has
 * set the number. */
static uint32_t *
number_at(lua_State *L, struct table *t, uint64_t hash)
{
    if (2 * t->used >= t->size)
        grow(L, t);
    struct entry *e = entry_of(t, hash);
    t->used += e->number == 0;
    e->hash = hash;
    return &e->number;
}

/* The high bits are good, too, after this. */
static uint64_t
hash_end(uint64_t h)
{
    h = (h ^ h >> 32) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 32;
}

/* ---- records ---- */

static void
put(lmpe_description *d, const void *bytes, size_t size)
{
    if (mpe_buf_append(&d->out, bytes, size) != MPE_OK)
        luaL_error(d->L, "out of memory");
}

static void
put_u32(lmpe_description *d, uint32_t n)
{
    put(d, &n, sizeof n);
}

uint32_t
lmpe_describe_text(lmpe_description *d, const char *bytes, size_t size)
{
    uint64_t hash = hash_end(lmpe_hash_more(LMPE_HASH_SEED, bytes, size));
    uint32_t *number = number_at(d->L, &d->texts, hash);
    if (*number == 0) {
        *number = ++d->text_count;
        put(d, "T", 1);
        put_u32(d, (uint32_t)size);
        put(d, bytes, size);
    }
    return *number;
}

int
lmpe_describe_asks(lmpe_description *d)
{
    return d->asked < ASKED && ++d->asked;
}

/* The string on top, popped; 0 when it is none. */
static uint32_t
text_on_top(lmpe_description *d)
{
    size_t size;
    const char *bytes = lua_tolstring(d->L, -1, &size);
    uint32_t n = bytes ? lmpe_describe_text(d, bytes, size) : 0;
    lua_pop(d->L, 1);
    return n;
}

/* ---- stacks ---- */

static uint64_t
hash_frame(uint64_t h, const lua_Debug *ar)
{
    int lines[2] = {ar->currentline, ar->linedefined};
    const char *name = *ar->what == 'C' ? ar->name : ar->short_src;
    return lmpe_hash_more(lmpe_hash_more(h, name, strlen(name)), lines, sizeof lines);
}

/* Appends the line of a frame. */
static void
add_line(lua_State *L, mpe_buf *b, const lua_Debug *ar)
{
    char line[LUA_IDSIZE * 3];
    int n;
    if (*ar->what == 'C')
        n = snprintf(line, sizeof line, "[C]: in %s '%s'\n", ar->namewhat, ar->name);
    else if (*ar->namewhat)
        n = snprintf(line, sizeof line, "%s:%d: in %s '%s'\n", ar->short_src, ar->currentline,
                     ar->namewhat, ar->name);
    else if (*ar->what == 'm')
        n = snprintf(line, sizeof line, "%s:%d: in main chunk\n", ar->short_src, ar->currentline);
    else
        n = snprintf(line, sizeof line, "%s:%d: in function <%s:%d>\n", ar->short_src,
                     ar->currentline, ar->short_src, ar->linedefined);
    if (n >= (int)sizeof line) {
        n = sizeof line - 1;
        line[n - 1] = '\n';
    }
    if (mpe_buf_append(b, line, (size_t)n) != MPE_OK) {
        mpe_buf_free(b);
        luaL_error(L, "out of memory");
    }
}

typedef void (*visit_fn)(lua_State *L, lua_State *co, lua_Debug *ar, void *ud);

/* Calls visit for each frame that is shown. */
static void
visit_frames(lua_State *L, lmpe_task *t, visit_fn visit, void *ud)
{
    lua_Debug ar;
    int n = 0;
    lmpe_link *l = t->S->links;
    for (lua_State *co = NULL; (co = lmpe_next_coroutine(L, t, co, &l)) != NULL;) {
        for (int level = 0; n < LEVELS && lmpe_getstack(co, level, &ar); level++) {
            if (!lmpe_is_shown(co, &ar, level))
                continue;
            visit(L, co, &ar, ud);
            n++;
        }
    }
}

static void
visit_hash(lua_State *L, lua_State *co, lua_Debug *ar, void *ud)
{
    uint64_t *hash = ud;
    (void)L, (void)co;
    *hash = hash_frame(*hash, ar);
}

static void
visit_line(lua_State *L, lua_State *co, lua_Debug *ar, void *ud)
{
    lua_getinfo(co, "n", ar);
    add_line(L, ud, ar);
}

/* The number of the text of the stack of a task, made when the first task has that stack. */
static uint32_t
describe_stack(lmpe_description *d, lmpe_task *t)
{
    uint64_t hash = LMPE_HASH_SEED;
    visit_frames(d->L, t, visit_hash, &hash);
    uint32_t *number = number_at(d->L, &d->stacks, hash_end(hash));
    if (*number)
        return *number;
    mpe_buf lines;
    mpe_buf_init(&lines);
    visit_frames(d->L, t, visit_line, &lines);
    uint32_t text = lmpe_describe_text(d, (char *)lines.data, lines.len);
    mpe_buf_free(&lines);
    return *number = text;
}

/* ---- tasks ---- */

enum { IS_MAIN = 8 }; /* beside the state */

/* What tasks have in common, without room between the fields. */
struct group {
    uint64_t object; /* that it waits for; 0: none */
    uint32_t state;
    uint32_t name; /* a text; 0: that of the site */
    uint32_t site;
    uint32_t stack;   /* a text */
    uint32_t wait;    /* what it waits for, a text; 0: the object */
    uint32_t place;   /* where that was made, 0: unknown */
    uint32_t slot;    /* + 1 of the process that the holder is in; 0: none */
    uint32_t holder;  /* its number, 0: the main task, UINT32_MAX: no task */
    uint32_t depends; /* how many tasks of this process must end first; their numbers follow */
};

/* G state name stack site wait place object slot holder depends, and the numbers. The texts of the site
 * are written once it is known that they are needed. */
static void
add_group(lmpe_description *d, lmpe_task *t, const struct group *g, const uint32_t *depends)
{
    uint32_t name = g->name, site = 0;
    if (!name && t == t->S->main_task) {
        name = lmpe_describe_text(d, "main", 4);
    } else if (!name) {
        lmpe_push_site_name(d->L, t->site);
        name = text_on_top(d);
    }
    if (t->site && lmpe_push_site(d->L, t->S, t->site))
        site = text_on_top(d);
    put(d, "G", 1);
    const uint32_t fields[] = {g->state, name, g->stack, site, g->wait, g->place};
    put(d, fields, sizeof fields);
    put(d, &g->object, sizeof g->object);
    const uint32_t rest[] = {g->slot, g->holder, g->depends};
    put(d, rest, sizeof rest);
    put(d, depends, g->depends * sizeof *depends);
}

/* A name that was set, as a text; 0: none. The task is on top. */
static uint32_t
own_name(lmpe_description *d)
{
    uint32_t n = 0;
    int top = lua_gettop(d->L);
    lmpe_push_extra(d->L, -1);
    if (lua_istable(d->L, -1) && lua_getfield(d->L, -1, "name") == LUA_TSTRING)
        n = text_on_top(d);
    lua_settop(d->L, top);
    return n;
}

/* The task is on top of the stack. */
static void
describe_task(lmpe_description *d, lmpe_task *t, uint64_t now)
{
    lmpe_wait_told w = {.holder = LMPE_NO_HOLDER, .numbers = d->numbers};
    struct group g;
    memset(&g, 0, sizeof g);
    g.state = t->state | (t == t->S->main_task ? IS_MAIN : 0);
    g.name = own_name(d);
    g.site = t->site;
    g.stack = describe_stack(d, t);
    if (t->state == LMPE_WAITING) {
        lmpe_describe_wait(d->L, d, t, &w);
        g.object = w.object, g.wait = w.text, g.place = w.place, g.slot = w.slot;
        g.holder = w.slot ? (uint32_t)w.holder : 0;
        g.depends = w.depends;
    }
    uint64_t hash = lmpe_hash_more(LMPE_HASH_SEED, &g, sizeof g);
    hash = hash_end(lmpe_hash_more(hash, w.numbers, g.depends * sizeof w.numbers[0]));
    uint32_t *number = number_at(d->L, &d->groups, hash);
    if (*number == 0) {
        *number = ++d->group_count;
        add_group(d, t, &g, w.numbers);
    }
    uint32_t waited = t->state == LMPE_WAITING ? lmpe_moment(now) - t->since : 0;
    const uint32_t record[] = {(uint32_t)lmpe_task_number(t), *number, waited};
    put(d, "t", 1);
    put(d, record, sizeof record);
}

/* ---- for the Lua side ---- */

/* description() -> one of all tasks */
static int
description(lua_State *L)
{
    lmpe_description *d = lua_newuserdatauv(L, sizeof *d, 0);
    memset(d, 0, sizeof *d);
    mpe_buf_init(&d->out);
    d->place = 1;
    luaL_setmetatable(L, DESCRIPTION);
    return 1;
}

static void
release(lmpe_description *d)
{
    struct table *tables[] = {&d->texts, &d->stacks, &d->groups};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        free(tables[i]->at);
        *tables[i] = (struct table){NULL, 0, 0};
    }
    mpe_buf_free(&d->out);
}

static int
description_gc(lua_State *L)
{
    release(luaL_checkudata(L, 1, DESCRIPTION));
    return 0;
}

/* 1 when there are more. */
static int
describe_some(lua_State *L, lmpe *S, lmpe_description *d, uint64_t until)
{
    uint64_t now = mpe_now();
    lmpe_push_anchors(L);
    int anchors = lua_gettop(L);
    for (; d->place <= S->anchor_top; d->place++) {
        lua_rawgeti(L, anchors, d->place);
        lmpe_task *t = lua_touserdata(L, -1);
        if (t && !t->background) {
            describe_task(d, t, now);
            if (++d->described % CLOCK_EVERY == 0 && (now = mpe_now()) > until) {
                d->place++;
                break;
            }
        }
        lua_settop(L, anchors);
    }
    lua_settop(L, anchors);
    return d->place <= S->anchor_top;
}

/* description:go_on(seconds) -> records behind their size, whether there is more. A task has one record. One
 * that starts meanwhile may have none. */
static int
go_on(lua_State *L)
{
    lmpe_description *d = luaL_checkudata(L, 1, DESCRIPTION);
    uint64_t until = mpe_now() + (uint64_t)(luaL_checknumber(L, 2) * MPE_NS_PER_S);
    luaL_checkstack(L, 40, NULL);
    lua_settop(L, 2);
    d->L = L;
    mpe_buf_reset(&d->out, KEPT);
    put_u32(d, 0);
    int more = describe_some(L, lmpe_self(L), d, until);
    uint32_t size = (uint32_t)d->out.len - (uint32_t)sizeof size;
    memcpy(d->out.data, &size, sizeof size);
    lua_pushlstring(L, (const char *)d->out.data, d->out.len);
    lua_pushboolean(L, more);
    if (!more) /* the collector may not come for long */
        release(d);
    return 2;
}

void
lmpe_open_describe(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"description", description}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"go_on", go_on}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, DESCRIPTION);
    lua_createtable(L, 0, 1);
    lmpe_setfuncs(L, S, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, description_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}
