/* SPDX-License-Identifier: MIT */
/*
** lcodec_int.h - shared by the files lcodec*.c.
**
**   lcodec.c         the calls of lcodec.h: fast paths, the Lua module, what a lua_State keeps
**   lcodec_encode.c  any value -> bytes, through the Lua API
**   lcodec_objects.c tables, functions and userdata in it
**   lcodec_plain.c   plain tables -> bytes, without it
**   lcodec_decode.c  bytes -> values
**   lcodec_refs.c    references, names and handles in it
**   lcodec_code.c    Lua functions as code, and how that is sent only once
**   lcodec_maker.c   closures of code that was read once
**   lcodec_names.c   what belongs to a loaded module, and by which name
**   lcodec_path.c    the path to a value that cannot be sent
**   lcodec_memo.c    which objects a message holds already
*/
#ifndef LMPE_CODEC_INT_H
#define LMPE_CODEC_INT_H

#include <lauxlib.h>
#include <lua.h>
#include <stdatomic.h>

#include "codec/lcodec.h"
#include "codec/lcodec_memo.h"
#include "base/lcheck.h"
#include "base/lfinalize.h"

/* Deepest nesting; a level takes up to four of the million slots of a Lua stack. */
#define LMPE_MAX_DEPTH 200000

/* The values that a lua_State keeps for the codec, as the elements of a table in its registry. */
enum lmpe_keep {
    LMPE_KEEP_LOADED = 1, /* package.loaded */
    LMPE_KEEP_REQUIRE,    /* require, as it was when the codec was opened */
    LMPE_KEEP_CLASSES,    /* registered metatables: by name, and names by metatable */
    LMPE_KEEP_DUMPS,      /* function -> its code, a string or a blob; weak keys */
    LMPE_KEEP_PROTOTYPES, /* address of a prototype -> a function that has it; weak values */
    LMPE_KEEP_CODE,       /* code -> the same, or a blob of it; handle -> blob; [0] counts bytes */
    LMPE_KEEP_CODE_OLD,   /* as it was before that was full */
    LMPE_KEEP_NAMES,      /* lmpe_names, its user value the list of names */
    LMPE_KEEP_ENCODER,    /* lmpe_encoder, when it is not in use */
    LMPE_KEEP_DECODER,
    LMPE_KEEP_N = LMPE_KEEP_DECODER
};

/* Pushes that table. */
void lmpe_codec_keep(lua_State *L);

/* Registers the name and the metatable at the top; they stay. */
void lmpe_codec_add_class(lua_State *L, int keep);

/* ------------------------------------------------------------------------------ encoding */

enum { LMPE_FRAME_TABLE, LMPE_FRAME_FUNC };

/* The position in a table's traversal. */
enum { LMPE_AT_LIST, LMPE_AT_KEY, LMPE_AT_VALUE };

/* A table or function that is being encoded; its contents follow on the Lua stack. */
typedef struct lmpe_frame {
    int idx; /* of the object; the current key of a table is at idx + 1 */
    uint8_t kind;
    uint8_t phase;
    size_t i;      /* the element or upvalue that is being written, from 1 */
    size_t n;      /* how many there are */
    size_t mark;   /* for mpe_wire_end_table */
    size_t npairs; /* written */
} lmpe_frame;

typedef struct lmpe_plain_frame lmpe_plain_frame;

typedef struct lmpe_encoder {
    lua_State *L;
    mpe_buf *out;
    size_t start; /* of the message in out */
    lmpe_encode_opts *opts;
    int first, n; /* the values */
    int keep;     /* stack index of the table of kept things */
    int current;  /* index of the value that is being written */
    const void *globals;
    struct lmpe_names *names;
    int names_fresh;  /* rebuilt for this message */
    int may_be_plain; /* plain tables take the short way */
    int has_handles;
    size_t passed; /* descriptors in the message */
    uint32_t cells;
    lmpe_memo memo;
    lmpe_frame *frames;
    size_t depth, frames_cap;
    lmpe_plain_frame *plain;
    size_t plain_cap;
    mpe_buf code; /* scratch: a dump, a path */
    int busy;
} lmpe_encoder;

/* Each state sets the same ones, from any thread. */
extern _Atomic(const lmpe_codec_hooks *) lmpe_codec_hooks_set;
static inline const lmpe_codec_hooks *
lmpe_codec_hooks_now(void)
{
    return atomic_load_explicit(&lmpe_codec_hooks_set, memory_order_acquire);
}

/* The descriptors that were passed are in no message. */
void lmpe_encode_take_back(lmpe_encoder *e);

/* Writes e->n values.  0, or negative with a message pushed, as all that follow do. */
int lmpe_write_values(lmpe_encoder *e);

/* A string, or a reference to it when the message has it. */
int lmpe_encode_string(lmpe_encoder *e, const void *key, const char *bytes, size_t n);

/* A reference to the value of the live slot. These functions and the tags push no message. */
int lmpe_encode_ref(lmpe_encoder *e, lmpe_memo_slot *slot);
int lmpe_encode_tag(lmpe_encoder *e, uint8_t tag);
int lmpe_encode_count(lmpe_encoder *e, uint8_t tag, uint64_t n);

/* A reference when the object is already in the message: 1; otherwise 0, and nothing is written. */
int lmpe_encode_met(lmpe_encoder *e, const void *object);
/* Remembers the object; its tag must be written next. */
int lmpe_encode_remember(lmpe_encoder *e, const void *object);
/* The object at the top has n elements or upvalues that are written next. */
int lmpe_encode_push(lmpe_encoder *e, int kind, size_t n);

/* The value at the top: it is popped, or has a frame. */
int lmpe_encode_table(lmpe_encoder *e);
int lmpe_encode_function(lmpe_encoder *e);
int lmpe_encode_userdata(lmpe_encoder *e);
/* Whether the table at the top has a metatable that cannot be sent. */
int lmpe_encode_is_strange(lmpe_encoder *e);

/*
** The table as bytes, when it and everything below it are plain data: 1. 0: it is not, and the
** message holds half of it. Calls no Lua function, so it cannot raise, and nothing it reads can
** change.
*/
int lmpe_encode_plain(lmpe_encoder *e, const void *table);

/* The address of the prototype of a Lua function, or NULL when that cannot be determined. */
const void *lmpe_plain_prototype(const void *function);

/* A number that changes when a pair of the table does, or 0 when there is no cheap one. */
uint64_t lmpe_plain_fingerprint(const void *table);

/* Checks whether this Lua's memory can be read like that; to be called once in each state. */
void lmpe_plain_probe(lua_State *L);

/* Pushes a message made of the path to the current value and what; returns code. */
int lmpe_encode_fail(lmpe_encoder *e, int code, const char *what);
int lmpe_encode_no_memory(lmpe_encoder *e);
/* Returns rc, which is 0 or ENOMEM, with its message pushed. */
int lmpe_encode_checked(lmpe_encoder *e, int rc);

/* ------------------------------------------------------------------------------ decoding */

typedef struct lmpe_dframe {
    int idx; /* of the object */
    uint8_t kind;
    uint8_t has_key;   /* a key waits on the stack for its value */
    uint8_t has_meta;  /* the future metatable is below the object */
    uint8_t has_class; /* below that, what the object stands for, or the name it gets */
    uint8_t open;
    size_t i;      /* elements or upvalues that are there */
    size_t n;      /* of how many */
    size_t npairs; /* still to come, unless open */
    size_t owes;   /* minimum of values it still waits for */
    uint32_t memo; /* of a function: where it is remembered */
} lmpe_dframe;

typedef struct lmpe_cell {
    uint32_t memo; /* the function that had it first */
    uint32_t upvalue;
} lmpe_cell;

typedef struct lmpe_decoder {
    lua_State *L;
    mpe_wire_reader r;
    unsigned flags;
    int keep; /* stack index of the kept things; then the table of marked values, and the decoder,
                    whose user values are that and the classes that the message brings */
    int brings_classes;
    size_t room; /* stack slots that are known to be there */
    size_t owed; /* minimum of bytes that open frames need, less those they got */
    lmpe_dframe *frames;
    size_t depth, frames_cap;
    size_t *marks; /* offsets of the marked values, ascending; their values are 1.. in the table */
    size_t nmarks, marks_cap;
    uint32_t *numbers; /* number of a reference -> place in the table */
    size_t nnumbers, numbers_cap;
    lmpe_cell *cells;
    size_t ncells, cells_cap;
    int busy;
} lmpe_decoder;

int lmpe_read_values(lmpe_decoder *d, int *n);

/* Pushes a message; returns code. */
int lmpe_decode_fail(lua_State *L, int code, const char *format, ...);
int lmpe_decode_damaged(lmpe_decoder *d);
int lmpe_decode_no_memory(lmpe_decoder *d);

/* Room for one more element of a vector, given by the address of its pointer.  Errors: ENOMEM. */
int lmpe_decode_grow(void *vector, size_t *cap, size_t used, size_t size);

/* Reserves a place, d->nmarks, for the marked value with its tag at this offset. Tags arrive in
 * order. */
int lmpe_decode_reserve(lmpe_decoder *d, size_t at);
/* Puts the value at the top in its place; it stays. */
void lmpe_decode_keep(lmpe_decoder *d, size_t place);

int lmpe_decode_ref(lmpe_decoder *d, size_t number);
int lmpe_decode_refnew(lmpe_decoder *d, size_t at);
int lmpe_decode_str(lmpe_decoder *d, const mpe_wire_item *item);
int lmpe_decode_name(lmpe_decoder *d, const mpe_wire_item *item); /* a string or reference */
int lmpe_decode_module(lmpe_decoder *d, const mpe_wire_item *item);
/* Whether the item pushed a value from a module: nothing else in a message is a metatable. */
int lmpe_decode_is_module(const lmpe_decoder *d, const mpe_wire_item *item);
int lmpe_decode_object(lmpe_decoder *d, uint64_t h); /* the object of a handle, of any kind */
int lmpe_decode_handle(lmpe_decoder *d, const mpe_wire_item *item); /* the same as a value */
int lmpe_decode_code(lmpe_decoder *d); /* of the function that comes next */
/* Pushes the class registered with the name at the top, or the one in this message; its type. */
int lmpe_decode_class(lmpe_decoder *d);
/* The table at the top is the class with the name at that index, which is unknown here. */
void lmpe_decode_new_class(lmpe_decoder *d, int name);
/* The message is complete: registers the classes it brought. */
void lmpe_decode_register(lmpe_decoder *d);

/* ---------------------------------------------------------------------------------- code */

typedef struct lmpe_code {
    uint64_t handle; /* of a blob; 0: the bytes go whole */
    const char *bytes;
    size_t n;
} lmpe_code;

/* The piece that lmpe_next_piece, a lua_Reader, returns at once and whole. */
typedef struct lmpe_piece {
    const char *bytes;
    size_t n;
} lmpe_piece;
const char *lmpe_next_piece(lua_State *L, void *piece, size_t *n);

/* Pushes the owner of the code of the Lua function at the top. Errors: ENOMEM. */
int lmpe_code_push(lmpe_encoder *e, lmpe_code *code);
/* Pushes a function from bytecode, its own or a blob's.  0, or negative with a message pushed. */
int lmpe_code_load(lmpe_decoder *d, const char *code, size_t n);
int lmpe_code_load_shared(lmpe_decoder *d, uint64_t h);
/* Is this a Lua whose private memory and bytecode were tested? lcodec_plain.c. */
int lmpe_plain_is_usable(void);
/* Pushes a function that gives a new closure of the code each time it is called, or false. */
void lmpe_code_maker(lua_State *L, const char *code, size_t n);

/* --------------------------------------------------------------------------------- names */

typedef struct lmpe_names lmpe_names;

/* The names of this state, up to date with package.loaded. */
lmpe_names *lmpe_names_get(lua_State *L, int keep);
void lmpe_names_rebuild(lua_State *L, int keep, lmpe_names *names);
/* The kind of name that an object at this address had when they were built. Cheap. */
enum { LMPE_UNNAMED, LMPE_NAMED, LMPE_CLASS };
int lmpe_names_has(const lmpe_names *names, const void *object);
/* Call it when the registered metatables have changed. */
void lmpe_names_expire(lua_State *L, int keep);
/* Pushes the name of the value at the top, its parts separated by "\0", if it still has one. */
int lmpe_names_push(lua_State *L, int keep, const lmpe_names *names);
/* Pushes the value named by the nkeys + 1 strings at the top, and removes them. */
int lmpe_names_resolve(lua_State *L, int keep, int nkeys, int may_load);

#endif
