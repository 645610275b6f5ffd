/* SPDX-License-Identifier: MIT
 *
 * lprocess.h - the door of the room process, the highest. The room owns the children of this process,
 * what signals do, standard output, and how a process begins and ends. It offers these to the files
 * beside the rooms, and hands the table of signals down to the room task.
 *
 * The notes of children are kept in a list of their own, since the program waits for its children
 * at the end, when every userdata may have been collected already.
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
    pid_t owner;    /* the process whose child it is */
    int daemon, ended, code;
    int dropped; /* its userdata is gone: the note is freed when it has exited */
};

#define LMPE_CHILD "mpengine.child"

/* lprocess.c */
lmpe_child *lmpe_check_child(lua_State *L, int idx);
/* 1 when it has exited. */
int lmpe_poll_child(lmpe *S, lmpe_child *c);
/* It has exited: removes it from the list. */
void lmpe_child_ended(lmpe *S, lmpe_child *c);

/* ---- lspawn.c, lshutdown.c ---- */

/* Keeps the collector away from the present heap, and lets it run if it was stopped: lspawn.c. */
void lmpe_put_off_collection(lua_State *L);
/* Ends this process now: releases everything it holds; nothing is unwound or collected. */
void lmpe_process_end(lmpe *S, int code);

/* ---- ltitle.c ---- */

/* Before a child is forked: what it needs to show its name. */
void lmpe_title_prepare(lmpe *S);
/* The name of this process has changed: lists of processes show it, if it is a child. */
void lmpe_title_show(lmpe *S);

/* ---- loutput.c ---- */

void lmpe_output_flush(lmpe *S);
void lmpe_output_forked(lmpe *S);
/* Other processes will write to the same descriptors: flushes, and from now on lines are written
 * whole. */
void lmpe_output_shared(lmpe *S);
/* Has the text that was written last not ended its line? */
int lmpe_output_is_mid_line(const lmpe *S);
/* From a signal handler that ends the process: writes as much as possible. */
void lmpe_output_rescue(lmpe *S);

/* ---- signals: lsignal.c ------------------------------------------------------------------- */

/* This universe is the program: it takes SIGINT and SIGTERM. */
void lmpe_signals_open(lmpe *S);
/* A signal is about to be taken: a host gets it back, as it is now, when its state is closed. */
void lmpe_signal_keep(int number);
/* In a child. Between the fork and this, signals are held back. */
void lmpe_signals_child(lmpe *S);
void lmpe_signals_hold(sigset_t *before);
/* linherit.c: undoes what the starter of this process did to signals that the library needs. In a
 * forked child after the mask is restored. */
void lmpe_signals_inherited(void);
/* Before a child is started: from now on SIGCHLD makes lmpe_reap_children run soon after a
 * child's exit, unless other code has taken the signal. 1 when it does. */
int lmpe_signal_children(lmpe *S);
/* lprocess.c: reaps the children that have exited, so that nothing of them is left in the
 * system. */
void lmpe_reap_children(lmpe *S);
/* Makes the running code reach a point soon where signals are looked at, after so many instructions
 * at the latest, and the loop check. For handlers. */
void lmpe_alert(lmpe *S, int instructions);
/* The signal that ended, or is about to end, the main chunk; 0. */
int lmpe_signal_raised(void);

#endif
