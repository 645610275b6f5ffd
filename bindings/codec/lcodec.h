/* SPDX-License-Identifier: MIT */
/*
** lcodec.h - the door of the room codec: Lua values as messages. The room owns what a Lua state
** keeps of names, code and closures it has sent or read, and the types that scripts register.
** lmessage.h, on top of it, has messages of the engine in the scratch of a state.
**
** lmpe_encode and lmpe_decode turn stack values into the bytes of mpengine_wire.h and back;
** every value that crosses a process boundary goes through them. The rest of the codec is
** private to the files lcodec_*.c; lcodec_int.h lists them.
*/
#ifndef LMPE_CODEC_H
#define LMPE_CODEC_H

#include <lua.h>

#include "mpengine_core.h"

/* ----------------------------------------------------------------------------- encoding */

/* How a message is made. All zero is the default; NULL for the whole means that. */
typedef struct lmpe_encode_opts {
    /* The names of the values in an error: names[0..nnames-1] are the first ones, the rest are
     * root[1], root[2]... Without a root they are "value", or value[1], value[2]... */
    const char *const *names;
    int nnames;
    const char *root;
    /* The reader belongs to this program: the code of functions may then be shared objects
     * instead of bytes. Like others, these live until the values change or are collected. */
    int in_program;
    /* The reader is another program: functions, shared objects and what belongs to a module are
     * refused. */
    int outside;
    /* What becomes of files, sockets and pipes among the values. */
    enum { LMPE_PASS_NONE, LMPE_PASS_ONCE, LMPE_PASS_KEPT } passes;
    /* Set by the encoder: the message holds handles of shared objects. */
    int has_handles;
} lmpe_encode_opts;

/*
** Appends the values at first .. first+n-1 to `out` as one message.  0, or a negative code: then
** a message, without position, is pushed that names the path to the offender, and `out` is as
** before.  ETYPE: not sendable; ENOMEM; ERANGE: nested too deep, or 2 GiB and more.
** Raises only Lua's memory error; so a caller with memory of its own (a grown `out`) keeps it in
** something that Lua frees, or calls under lua_pcall. Messages of nil, booleans, numbers and
** strings only raise nothing at all.
*/
int lmpe_encode(lua_State *L, int first, int n, mpe_buf *out, lmpe_encode_opts *opts);

/*
** A message that is one string need not be copied: 1 when the value at idx is a string, with its
** bytes in *bytes, *len, which header[0 .. *header_len-1] precedes in the message; else 0.
*/
int lmpe_encode_is_bytes(lua_State *L, int idx, const char **bytes, size_t *len,
                         uint8_t header[MPE_WIRE_STR_HEADER], size_t *header_len);

/* ----------------------------------------------------------------------------- decoding */

/* Accept functions as bytecode: only for messages of processes of the same program. */
#define LMPE_DECODE_FUNCTIONS 1u
/* Refuse what `outside` of lmpe_encode_opts does: for messages of other programs. */
#define LMPE_DECODE_OUTSIDE 2u

/*
** Pushes the values of a message, *n of them.  0, or a negative code: then only a message is
** pushed.  ECORRUPT: damaged; ETYPE: something in it does not exist here (a module, a registered
** name); EPERM: what the flags refuse; ESTALE: a shared object that is gone; ENOMEM.
** May load modules, with all that follows.  Raises only Lua's memory error; messages of one
** nil, boolean or number raise nothing at all.
*/
int lmpe_decode(lua_State *L, const void *data, size_t len, int *n, unsigned flags);

/* --------------------------------------------------------------------------------- rest */

/* How shared objects are recognised, looked up and made, the same for the whole program, for good.
 * All zero: there are none. */
typedef struct lmpe_codec_hooks {
    /* 1 and *h when the userdata at idx is a shared object, else 0. */
    int (*to_handle)(lua_State *L, int idx, uint64_t *h);
    /* Pushes the object and returns 0, or pushes nothing and returns a negative code. */
    int (*from_handle)(lua_State *L, uint64_t h);
    /* Pushes a new blob, a userdata with a user value, with these bytes, or as from_handle. */
    int (*share)(lua_State *L, const void *bytes, size_t n);
    /* The bytes of the blob at idx; NULL when it is none. */
    const void *(*shared)(lua_State *L, int idx, size_t *n);
    /* 1 and *h, of a new Descriptor that the hook holds, when the value at idx has a descriptor; 0
     * when it has none; negative, with a message pushed, when it cannot be sent. */
    int (*pass)(lua_State *L, int idx, int once, uint64_t *h);
    /* The last n of them are in no message. */
    void (*take_back)(lua_State *L, size_t n);
    /* Pushes the value of a Descriptor and returns 0, or a message and returns a negative code. */
    int (*receive)(lua_State *L, uint64_t h);
} lmpe_codec_hooks;
void lmpe_codec_set_hooks(const lmpe_codec_hooks *hooks);

/* mp.register(name, metatable): tables with that metatable can be sent. */
int lmpe_codec_register(lua_State *L);

/* Opens mp.codec: encode(...) -> string, decode(string [, {functions = true}]) -> ... */
int luaopen_mpengine_codec(lua_State *L);

/* Whether plain tables are read in Lua's memory (lcodec_plain.c). */
int lmpe_plain_is_used(void);

#endif
