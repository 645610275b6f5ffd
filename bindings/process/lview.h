/* SPDX-License-Identifier: MIT
 *
 * lview.h - readers and the processes they ask: lview.c, lask.c, lanswer.c.
 *
 * A question is a memory file and a pipe of the reader. The file has the text of the question; the
 * signal that asks carries its number, and the text begins with that of the pipe. The process
 * that is asked opens both through /proc, writes its answer into the file, and into the pipe a byte
 * when it begins and one when the answer is whole. So the answer never blocks, nothing of the reader
 * is mapped or shared, and each side sees the death of the other.
 */
#ifndef LVIEW_H
#define LVIEW_H

#include "base/lmpe.h"

#define LMPE_QUESTION "mpengine-question" /* name of the file */
#define LMPE_ANSWER_BEGUN 'b'
#define LMPE_ANSWER_DONE 'd'

/* The view at idx, which is open. */
mpe_view *lmpe_check_view(lua_State *L, int idx);

/* ---- lanswer.c, for lsignal.c ---- */

/* This process answers from now on; in a child again. */
void lmpe_answers_open(lmpe *S);
/* Has a question arrived that running code is to be interrupted for? */
int lmpe_is_asked(const lmpe *S);
/* Goes on with the answer, for some milliseconds. */
void lmpe_answer(lua_State *L, lmpe *S);
/* SIGQUIT starts a reader. */
void lmpe_quit_install(void);

#endif
