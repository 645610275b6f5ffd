/* SPDX-License-Identifier: MIT
 *
 * lmessage.h - values as messages of the engine, in the scratch of a state.
 */
#ifndef LMPE_MESSAGE_H
#define LMPE_MESSAGE_H

#include "base/lmpe.h"

/* Encodes the value at idx into *S->scratch; raises with the path to a value that cannot be
 * sent. Returns whether it holds handles. */
int lmpe_encode_value(lua_State *L, lmpe *S, int idx, const char *root, const char *where);
/* The same for an item of a queue or pipe, which is received once: its descriptors too. */
int lmpe_encode_item(lua_State *L, lmpe *S, int idx, const char *where);
/* The bytes were not sent, so descriptors in them are closed on their way. */
void lmpe_unsent(lmpe *S, const void *bytes, size_t size);
/* The message that was encoded last was put, or was not sent: its descriptors are held no longer. */
void lmpe_drop_passed(lua_State *L, lmpe *S);
static inline void
lmpe_sent(lua_State *L, lmpe *S)
{
    if (S->passed_count > 0)
        lmpe_drop_passed(L, S);
}
int lmpe_count_descriptors(const void *bytes, size_t size);
/* The same as lmpe_encode_value for an argument list; the first leading values (at most LMPE_LEADING_MAX) accompany
 * it and are not called args[1] and so on in messages. */
#define LMPE_LEADING_MAX 4
int lmpe_encode_values(lua_State *L, lmpe *S, int first, int n, int leading, const char *where);
/* The same for a message that no other process reads: it contains the code of functions. */
int lmpe_encode_whole(lua_State *L, lmpe *S, int first, int n, const char *where);
/* The value at idx for another program, after the bytes of `before`; raises. */
void lmpe_encode_outside(lua_State *L, lmpe *S, int idx, const char *root, const char *where,
                         const mpe_bytes *before, int count);
/* Encodes n values into *S->scratch as opts say (it sets the hooks itself); returns how many
 * handles are in it. Less than 0: a message is pushed, as by lmpe_encode. */
struct lmpe_encode_opts;
int lmpe_try_encode(lua_State *L, lmpe *S, int first, int n, struct lmpe_encode_opts *opts,
                    int *handles);
/* Decodes n bytes and returns how many values were pushed; raises. pins: mark to unpin to. */
int lmpe_decode_values(lua_State *L, lmpe *S, const void *data, size_t size, uint32_t pins);

/* lmessage_kept.c: such items. */
#define LMPE_NO_ROOM "cannot receive a descriptor: Too many open files"
int lmpe_has_room(lua_State *L, const void *bytes, size_t size); /* for the descriptors in them? */
void lmpe_keep_item(lua_State *L, lmpe *S, mpe_object *queue, const void *bytes, size_t size);
uint32_t lmpe_kept_items(lmpe *S, mpe_object *queue); /* how many there are */
int lmpe_push_kept_item(lua_State *L, lmpe *S, mpe_object *queue);
/* Pushes a list of the shared objects that the bytes name. */
void lmpe_push_holds(lua_State *L, lmpe *S, const void *bytes, size_t size);

/* The get of an item of a queue, as an attempt: fills S->message, or has found one of those that
 * could not be received before; then the next call pushes its values. */
static inline int
lmpe_get_item(lmpe *S, mpe_object *queue)
{
    if (__builtin_expect(S->kept_count > 0, 0) && lmpe_kept_items(S, queue) > 0) {
        S->item_is_kept = 1;
        return MPE_OK;
    }
    return mpe_queue_get(S->e, queue, &S->message);
}
/* Pushes the values of that item; returns how many. Raises when it cannot be decoded; for want of
 * descriptors it is the next item again. */
int lmpe_push_item(lua_State *L, lmpe *S, mpe_object *queue);

/* Pushes the values of S->message, which a get has just filled, and frees it; returns how many. */
int lmpe_push_message(lua_State *L, lmpe *S);

#endif
