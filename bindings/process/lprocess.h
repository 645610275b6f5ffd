/* SPDX-License-Identifier: MIT
 *
 * lprocess.h - what the files about processes share: the note of a child. Notes are kept in a list of
 * their own, since at the end of the program the children are waited for when every userdata may
 * have been collected already.
 */
#ifndef LPROCESS_H
#define LPROCESS_H

#include "base/lmpe.h"

typedef struct lmpe_child lmpe_child;
struct lmpe_child {
    lmpe_child *next;
    mpe_process *p; /* from its start to its end */
    pid_t pid;      /* 0 before */
    pid_t owner;    /* whose child it is */
    int daemon, ended, code;
    int dropped; /* its userdata is gone: the note goes when it has ended */
};

#define LMPE_CHILD "mpengine.child"

/* lprocess.c */
lmpe_child *lmpe_check_child(lua_State *L, int idx);
/* 1 when it has ended. */
int lmpe_poll_child(lmpe *S, lmpe_child *c);
/* It has ended: takes it off the list. */
void lmpe_child_ended(lmpe *S, lmpe_child *c);

#endif
