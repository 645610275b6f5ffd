/* SPDX-License-Identifier: MIT
 *
 * linherit.c - signals as the starter of a program left them. The library needs some of them, and so do
 * io.popen and os.execute: those are unblocked, and SIGCHLD is not ignored, since no exit code of a
 * child is to be had then. What else is ignored (SIGHUP by nohup, say) stays so. In the library's own
 * processes only: a host keeps what it has.
 */
#include "base/lsystem.h"
#include "process/lprocess.h"

#include <signal.h>

static const int used[] = {SIGINT, SIGTERM, SIGCHLD, SIGALRM, SIGQUIT, MPE_ASK_SIGNAL};

void
lmpe_signals_inherited(void)
{
    struct sigaction a;
    if (sigaction(SIGCHLD, NULL, &a) == 0 && a.sa_handler == SIG_IGN)
        signal(SIGCHLD, SIG_DFL);
    for (size_t i = 0; i < sizeof used / sizeof *used; i++)
        lmpe_signal_unblock(used[i]);
}
