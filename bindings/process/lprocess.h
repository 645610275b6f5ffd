/* SPDX-License-Identifier: MIT
 *
 * lprocess.h - what the files about processes share. The note of a child: notes are kept in a list of
 * their own, since at the end of the program the children are waited for when every userdata may
 * have been collected already.
 */
#ifndef LPROCESS_H
#define LPROCESS_H

#include "base/lmpe.h"

#include <signal.h>

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

/* ---- lstart.c, lend.c ---- */

/* Keeps the collector off the heap there is now, and lets it run if it was stopped: lstart.c. */
void lmpe_put_off_collection(lua_State *L);
/* Faults in the pages of this memory for writing, at once: lstart.c. */
void lmpe_fault_in(const void *at, size_t bytes);
/* Ends this process now: what it holds is given up, nothing is unwound or collected. */
void lmpe_process_end(lmpe *S, int code);

/* ---- loutput.c ---- */

void lmpe_output_flush(lmpe *S);
void lmpe_output_forked(lmpe *S);
/* Other processes will write to the same descriptors: flushes, and lines leave whole from now on. */
void lmpe_output_shared(lmpe *S);
/* From a signal handler that ends the process: writes what can be written. */
void lmpe_output_rescue(lmpe *S);

/* ---- signals: lsignal.c ------------------------------------------------------------------- */

/* This universe is the program: it takes SIGINT and SIGTERM. */
void lmpe_signals_open(lmpe *S);
/* In a child. Between the fork and this, signals are held back. */
void lmpe_signals_child(lmpe *S);
void lmpe_signals_hold(sigset_t *before);
/* linherit.c: undoes what the starter of this process did to signals that the library needs. In a
 * forked child after the mask is restored. */
void lmpe_signals_inherited(void);
/* Before a child is started: from now on SIGCHLD has lmpe_reap_children called soon after a child's end,
 * unless somebody else has taken it. 1 when it is so. */
int lmpe_signal_children(lmpe *S);
/* lprocess.c: takes note of the children that have ended, which leaves nothing of them in the system. */
void lmpe_reap_children(lmpe *S);
/* The signal that ended, or is about to end, the main chunk; 0. */
int lmpe_signal_raised(void);

#endif
