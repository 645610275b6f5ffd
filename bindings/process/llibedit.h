/* SPDX-License-Identifier: MIT
 *
 * llibedit.h - the functions of libedit, which is opened when the interactive mode first reads a
 * line from a terminal. The library is optional: without its header LMPE_EDIT is not defined (see
 * the Makefile), and leditor.c says so.
 */
#ifndef LMPE_LLIBEDIT_H
#define LMPE_LLIBEDIT_H

#ifdef LMPE_EDIT

#include <histedit.h>

/* Those that are used, by name. */
#define LMPE_LIBEDIT_MAP(X)                                                                        \
    X(el_init)                                                                                     \
    X(el_set)                                                                                      \
    X(el_gets)                                                                                     \
    X(el_line)                                                                                     \
    X(el_wline)                                                                                    \
    X(el_insertstr)                                                                                \
    X(el_resize)                                                                                   \
    X(el_source)                                                                                   \
    X(history_init)                                                                                \
    X(history)

typedef struct lmpe_libedit_api {
#define LMPE_LIBEDIT_MEMBER(name) __typeof__(name) *name;
    LMPE_LIBEDIT_MAP(LMPE_LIBEDIT_MEMBER)
#undef LMPE_LIBEDIT_MEMBER
} lmpe_libedit_api;

extern lmpe_libedit_api lmpe_libedit; /* filled in by lmpe_libedit_load */

/* Opens the library. NULL, or the reason why there is none. Threads: the one that runs Lua. */
const char *lmpe_libedit_load(void);

#endif
#endif
