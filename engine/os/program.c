/* The program that runs in this process, to be started again. The link of /proc leads to it even
 * when its file has been replaced or removed, so it is used in that case; otherwise the file's
 * own path is more informative in lists of processes. Without /proc there is only the name it
 * was started by, which is recorded early, as it may be relative. */
#include "os/os.h"

#include "mpengine_core.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINK "/proc/self/exe"

static char noted[PATH_MAX];

void
mpe__program_note(void)
{
    const char *started_by = (const char *)getauxval(AT_EXECFN);
    if (noted[0] || access(LINK, X_OK) == 0 || !started_by || !realpath(started_by, noted))
        return;
}

static int
is_still(const char *path)
{
    struct stat file, program;
    return stat(path, &file) == 0 && stat(LINK, &program) == 0 && file.st_dev == program.st_dev &&
           file.st_ino == program.st_ino;
}

const char *
mpe_own_program(char *path, size_t size)
{
    ssize_t n = readlink(LINK, path, size - 1);
    if (n < 0)
        return noted[0] ? noted : NULL;
    path[n] = '\0';
    return is_still(path) ? path : LINK;
}
