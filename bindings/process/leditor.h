/* SPDX-License-Identifier: MIT
 *
 * leditor.h - the line that is being edited, for what writes to the same terminal. See leditor.c.
 */
#ifndef LMPE_LEDITOR_H
#define LMPE_LEDITOR_H

#include <stddef.h>
#include <stdint.h>

/* Is a line on the screen? Taken away for a text? */
enum lmpe_editor_state { LMPE_EDITOR_IDLE, LMPE_EDITOR_SHOWN, LMPE_EDITOR_AWAY };
extern enum lmpe_editor_state lmpe_editor_state;

/* Before these bytes are written to the descriptor: takes the line away. */
void lmpe_editor_make_room(int fd, const void *bytes, size_t size);
/* They were written, and the last one ended no line, if is_mid_line: shows the line again, below them. */
void lmpe_editor_show_again(int is_mid_line);

#endif
