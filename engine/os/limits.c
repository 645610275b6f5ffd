/* How large a mapped file may be under the limits of this process (setrlimit). The kernel does
 * not only refuse a file above the limit of file sizes, it also sends SIGXFSZ, so the limit is
 * read beforehand. */
#include "os/os.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static uint64_t
soft_limit(int resource)
{
    struct rlimit r;
    return getrlimit((unsigned)resource, &r) != 0 || r.rlim_cur == RLIM_INFINITY ? UINT64_MAX
                                                                                 : r.rlim_cur;
}

uint64_t
mpe__limit_file_bytes(void)
{
    return soft_limit(RLIMIT_FSIZE);
}

/* Bytes of address space in use; 0 if that cannot be read. */
static uint64_t
mapped_bytes(void)
{
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    if (fscanf(f, "%llu", &pages) != 1)
        pages = 0;
    fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t
mpe__limit_map_bytes(void)
{
    uint64_t limit = soft_limit(RLIMIT_AS);
    if (limit == UINT64_MAX)
        return limit;
    uint64_t mapped = mapped_bytes();
    return limit > mapped ? (limit - mapped) / 2 : 0;
}
