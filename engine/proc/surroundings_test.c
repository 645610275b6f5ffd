/* SPDX-License-Identifier: MIT */
/* What a starter may leave to a program: closed descriptors, limits, signals, system calls that are
 * refused. */
#include "mpengine.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- descriptors ---- */

/* Descriptors 0 to 2 that are open, as bits. */
static unsigned
standard_open(void)
{
    unsigned open = 0;
    for (int fd = 0; fd < 3; fd++)
        open |= (unsigned)(fcntl(fd, F_GETFD) >= 0) << fd;
    return open;
}

TEST(an_engine_and_its_loop_and_children_take_no_standard_descriptor)
{
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    mpe_engine *e = mpe_test_engine(0);
    EXPECT(mpe_loop(e) != NULL);
    EXPECT_EQ(standard_open(), 0);
    int is_child, code = -1;
    mpe_process *p;
    REQUIRE_OK(mpe_process_fork(e, "child", MPE_PROCESS_DAEMON, (mpe_bytes){0}, &p, &is_child));
    if (is_child) {
        int taken = !mpe_loop(e) || standard_open() != 0;
        mpe_leave(e);
        _exit(taken);
    }
    EXPECT_EQ(standard_open(), 0);
    EXPECT_OK(mpe_process_join(e, p, MPE_FOREVER, &code));
    EXPECT_EQ(code, 0);
    mpe_process_free(e, p);
    mpe_close(e);
    EXPECT_EQ(standard_open(), 0);
}
