/* Creating and mapping an arena. The file is sparse and has its maximum size from the start, so
 * that one mapping is permanent; memory is taken from the system by commits, under a limit.
 * Attaching trusts nothing: magic, format and sizes are checked before anything else is read.
 */
#include "core/region.h"

#include "os/os.h"
#include "core/arena.h"
#include "core/object.h"
#include "core/slot.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096u
#define OBJECTS_MAX (8u << 20)
#define OBJECTS_STEP 512u /* the table grows by so many */
#define SMALLEST (1ull << 20)
#define MAP_MAX (1ull << 36) /* intents and dict entries have room for such offsets */

static uint64_t
format_word(void)
{
    static const uint64_t sizes[] = {sizeof(struct mpe__header), sizeof(struct mpe__slot),
                                     sizeof(mpe_object),         MPE__SLOTS,
                                     MPE__CHUNK_BYTES,           MPE_KIND_COUNT};
    uint64_t h = 5; /* raise when the meaning of a field changes */
    for (size_t i = 0; i < MPE__COUNTOF(sizes); i++)
        h = (h ^ sizes[i]) * 0x100000001b3ull;
    return h;
}

/* The number of objects that a limit of so much memory allows. */
static uint32_t
objects_for(uint64_t heap_bytes)
{
    uint64_t most = mpe__round_up(heap_bytes / sizeof(mpe_object), OBJECTS_STEP);
    return most < OBJECTS_MAX ? (uint32_t)most : OBJECTS_MAX;
}

/* Where everything lies in an arena whose heap may reach heap_bytes. */
static void
lay_out(struct mpe__header *h, uint64_t heap_bytes)
{
    uint64_t off = mpe__round_up(sizeof(struct mpe__header), PAGE);
    off = mpe__round_up(off + MPE__SLOTS * sizeof(struct mpe__slot), PAGE);
    off += MPE__PLACES * sizeof(struct mpe__place);
    h->fixed_bytes = off;
    h->objects_max = objects_for(heap_bytes);
    h->objects_off = mpe__round_up(off, MPE__CHUNK_BYTES);
    h->chunks_off = mpe__round_up(h->objects_off + h->objects_max * sizeof(mpe_object),
                                  MPE__CHUNK_BYTES);
    uint64_t most = (MAP_MAX - h->chunks_off - 2 * MPE__CHUNK_BYTES) /
                    (MPE__CHUNK_BYTES + MPE__CHUNK_WORDS * 4 + 16);
    h->chunks_max = (uint32_t)(heap_bytes / MPE__CHUNK_BYTES);
    if (h->chunks_max > most)
        h->chunks_max = (uint32_t)most;
    h->owners_off = mpe__round_up(h->chunks_off + (uint64_t)h->chunks_max * 16, MPE__CHUNK_BYTES);
    h->heap_off = mpe__round_up(h->owners_off + (uint64_t)h->chunks_max * MPE__CHUNK_WORDS * 4,
                                MPE__CHUNK_BYTES);
    h->map_bytes = h->heap_off + (uint64_t)h->chunks_max * MPE__CHUNK_BYTES;
}

/* A mapping of this process: the engines of its threads share it, so that an arena has one set of
 * page tables and one descriptor. It goes with the last of them. */
struct mpe__mapping {
    mpe__a32 engines;
    int fd;
    uint8_t *base;
    uint64_t bytes;
};

static int
new_mapping(const mpe_engine *e, int fd, uint64_t bytes, struct mpe__mapping **out)
{
    struct mpe__mapping *m = mpe__new(&e->memory, sizeof *m);
    if (!m)
        return MPE_ENOMEM;
    *m = (struct mpe__mapping){.engines = 1, .fd = fd, .bytes = bytes};
    m->base = mpe__memfd_map(fd, bytes);
    *out = m;
    if (m->base)
        return MPE_OK;
    int saved = errno;
    mpe__delete(&e->memory, m, sizeof *m);
    errno = saved;
    return MPE_ESYS;
}

static void
free_mapping(const mpe_engine *e, struct mpe__mapping *m)
{
    int saved = errno;
    mpe__memfd_unmap(m->base, m->bytes);
    mpe__delete(&e->memory, m, sizeof *m);
    errno = saved;
}

static void
use_base(mpe_engine *e, uint8_t *base)
{
    e->base = base;
    e->header = (struct mpe__header *)e->base;
    e->slots = (struct mpe__slot *)(e->base + mpe__round_up(sizeof(struct mpe__header), PAGE));
    e->objects = (mpe_object *)(e->base + e->header->objects_off);
    e->objects_bytes = (uint64_t)e->header->objects_max * sizeof(mpe_object);
    e->seal = e->header->nonce & MPE__HANDLE_SEAL;
}

static void
use_mapping(mpe_engine *e, struct mpe__mapping *m)
{
    e->mapping = m;
    e->fd = m->fd;
    use_base(e, m->base);
    e->spare_fd = mpe__fd_copy(e->fd);
}

static int
map_new(mpe_engine *e, const struct mpe__header *h, const char *name)
{
    int fd = mpe__memfd_create(name, h->map_bytes);
    if (fd < 0)
        return MPE_ESYS;
    struct mpe__mapping *m;
    int rc = new_mapping(e, fd, h->map_bytes, &m);
    if (rc == MPE_OK && (mpe__memfd_commit(fd, 0, sizeof *h) != 0 ||
                         mpe__memfd_commit(fd, h->objects_off, sizeof(mpe_object)) != 0)) {
        free_mapping(e, m);
        rc = MPE_ESYS;
    }
    if (rc != MPE_OK) {
        mpe__fd_close(fd);
        return rc;
    }
    memcpy(m->base, h, sizeof *h);
    use_mapping(e, m);
    return MPE_OK;
}

/* A smaller heap to try, MPE__CHUNK_BYTES the step; 0 when none is left. */
static uint64_t
smaller(uint64_t heap)
{
    uint64_t less = (heap - heap / 8) / MPE__CHUNK_BYTES * MPE__CHUNK_BYTES;
    return heap <= SMALLEST ? 0 : less < SMALLEST ? SMALLEST : less;
}

/* Lays it out and maps it: the largest heap that the limits of this process and the kernel allow. */
static int
make(mpe_engine *e, struct mpe__header *h, uint64_t heap, const char *name)
{
    uint64_t file = mpe__limit_file_bytes(), addresses = mpe__limit_map_bytes();
    int rc = MPE_ESYS;
    errno = ENOMEM;
    for (; heap > 0 && rc != MPE_OK && rc != MPE_ENOMEM; heap = smaller(heap)) {
        lay_out(h, heap);
        if (h->limit_bytes > heap)
            h->limit_bytes = heap;
        if (h->map_bytes > file)
            rc = MPE_EFILESIZE;
        else if (h->map_bytes > addresses)
            rc = MPE_EADDRESSES;
        else
            rc = map_new(e, h, name);
    }
    return rc;
}

int
mpe__region_create(mpe_engine *e, uint64_t limit_bytes, const char *name)
{
    struct mpe__header h = {.magic = MPE__MAGIC, .format = format_word()};
    h.created = mpe__wall_now();
    mpe__process_command(h.command, sizeof h.command);
    h.nonce = mpe__random64();
    h.limit_bytes = limit_bytes;
    uint64_t heap = limit_bytes < MAP_MAX ? mpe__round_up(limit_bytes, MPE__CHUNK_BYTES) : MAP_MAX;
    int rc = make(e, &h, heap < SMALLEST ? SMALLEST : heap, name);
    if (rc != MPE_OK)
        return rc;
    atomic_store(&e->header->committed_bytes, h.fixed_bytes);
    atomic_store(&e->header->objects_top, 1); /* index 0 names no object: loop/output.c has it */
    return MPE_OK;
}

static int
read_header(int fd, struct mpe__header *h)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || pread(fd, h, sizeof *h, 0) != (ssize_t)sizeof *h)
        return MPE_ESYS;
    int is_ours = h->magic == MPE__MAGIC && h->format == format_word() &&
                  (uint64_t)st.st_size == h->map_bytes;
    return is_ours ? MPE_OK : MPE_EVERSION;
}

int
mpe__region_attach(mpe_engine *e, int fd)
{
    struct mpe__header h;
    int rc = read_header(fd, &h);
    if (rc != MPE_OK)
        return rc;
    struct mpe__mapping *m;
    rc = new_mapping(e, fd, h.map_bytes, &m);
    if (rc != MPE_OK)
        return rc;
    use_mapping(e, m);
    return MPE_OK;
}

void
mpe__region_share(mpe_engine *e, mpe_engine *with)
{
    atomic_fetch_add(&with->mapping->engines, 1);
    use_mapping(e, with->mapping);
}

void
mpe__region_unmap(mpe_engine *e)
{
    struct mpe__mapping *m = e->mapping;
    mpe__fd_close(e->spare_fd);
    mpe__fd_close(e->bell_fd); /* not earlier: a detaching slot still rings the others */
    if (m && atomic_fetch_sub(&m->engines, 1) == 1) {
        mpe__fd_close(m->fd);
        free_mapping(e, m);
    }
    e->base = NULL;
    e->mapping = NULL;
    e->fd = e->spare_fd = e->bell_fd = -1;
}

int
mpe__region_view(mpe_engine *e, int fd)
{
    struct mpe__header h;
    int rc = read_header(fd, &h);
    if (rc != MPE_OK)
        return rc;
    uint8_t *base = mpe__memfd_view(fd, h.map_bytes);
    if (!base)
        return MPE_ESYS;
    e->fd = e->bell_fd = e->spare_fd = -1;
    use_base(e, base);
    return MPE_OK;
}

void
mpe__region_view_end(mpe_engine *e)
{
    mpe__memfd_unmap(e->base, e->header->map_bytes);
}
