/* The start method spawn: a new program, which finds the arena's descriptor and a text in its
 * environment and attaches (birth.c). Nothing else of this process is inherited but the standard
 * descriptors, the working directory and the environment. posix_spawn reports what exec said.
 */
#include "os/os.h"
#include "proc/function.h"
#include "proc/proc.h"
#include "core/bell.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

extern char **environ;

#define ABOVE 6 /* descriptors are moved out of the way of the numbers they will get */

enum { ARENA, SECOND, TAIL, SILENCE, GIVEN };

/* The environment with one variable more; one block, the caller deletes it. */
static char **
environment_with(const mpe_engine *e, const char *text, size_t *bytes)
{
    size_t n = 0, size = sizeof MPE__CHILD_VARIABLE + strlen(text) + 1;
    while (environ && environ[n])
        n++;
    *bytes = (n + 2) * sizeof(char *) + size;
    char **block = mpe__new(&e->memory, *bytes);
    if (!block)
        return NULL;
    block[0] = (char *)(block + n + 2);
    snprintf(block[0], size, "%s=%s", MPE__CHILD_VARIABLE, text);
    for (size_t i = 0; i < n; i++)
        block[i + 1] = environ[i];
    block[n + 1] = NULL;
    return block;
}

/* Neither prints nor reads anything. */
static int
open_silence(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    return mpe_fd_lift(fd >= 0 ? fd : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

/* Copies of the descriptors that are above those numbers; to is -1 where there is none. */
static int
move_up(const int from[GIVEN], int to[GIVEN])
{
    for (int i = 0; i < GIVEN; i++) {
        if (from[i] < 0)
            continue;
        to[i] = fcntl(from[i], F_DUPFD_CLOEXEC, ABOVE);
        if (to[i] < 0 && errno == EINVAL) /* the limit is too low */
            errno = EMFILE;
        if (to[i] < 0)
            return MPE_ESYS;
    }
    return MPE_OK;
}

static int
fill_actions(posix_spawn_file_actions_t *a, const int moved[GIVEN])
{
    int rc = 0;
    for (int fd = 0; moved[SILENCE] >= 0 && fd < 3 && rc == 0; fd++)
        if (fd < 2 || fcntl(fd, F_GETFD) < 0)
            rc = posix_spawn_file_actions_adddup2(a, moved[SILENCE], fd);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(a, moved[ARENA], MPE__ARENA_FD);
    int next = MPE__SECOND_FD;
    for (int i = SECOND; i <= TAIL && rc == 0; i++)
        if (moved[i] >= 0)
            rc = posix_spawn_file_actions_adddup2(a, moved[i], next++);
    if (rc == 0)
        rc = posix_spawn_file_actions_addclosefrom_np(a, next);
    return rc;
}

/* An errno. */
static int
run_program(const struct mpe__program *p, const int moved[GIVEN], char **environment, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc != 0)
        return rc;
    rc = fill_actions(&actions, moved);
    if (rc == 0)
        rc = posix_spawn(pid, p->start->executable, &actions, NULL,
                         (char *const *)(uintptr_t)p->start->argv, environment);
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

int
mpe__spawn(mpe_engine *e, const struct mpe__program *p, pid_t *pid)
{
    const int from[GIVEN] = {e->fd, p->second_fd, p->tail_fd, p->quiet ? open_silence() : -1};
    int moved[GIVEN] = {-1, -1, -1, -1}, rc = MPE_ENOMEM, error = ENOMEM;
    size_t bytes;
    char **environment = environment_with(e, p->text, &bytes);
    if (environment)
        rc = p->quiet && from[SILENCE] < 0 ? MPE_ESYS : move_up(from, moved);
    if (rc == MPE_ESYS)
        error = errno;
    else if (rc == MPE_OK && (error = run_program(p, moved, environment, pid)) != 0)
        rc = MPE_ESYS;
    for (int i = 0; i < GIVEN; i++)
        mpe__fd_close(moved[i]);
    mpe__fd_close(from[SILENCE]);
    mpe__delete(&e->memory, environment, bytes);
    errno = error;
    return rc;
}

/* Puts the messages on a queue that the child's slot holds. */
static int
fill_gift(mpe_engine *e, const mpe_start *s, mpe_object *queue)
{
    for (int i = 0; i < s->count; i++) {
        const mpe_bytes *m = &s->messages[i];
        int rc = mpe_queue_put(e, queue, m, 1, mpe__names_objects(m->data, m->size));
        if (rc != MPE_OK)
            return rc;
    }
    return MPE_OK;
}

int
mpe__start_messages(mpe_engine *e, const mpe_start *s, uint32_t slot, mpe_handle *out)
{
    mpe_object *queue;
    int rc = mpe_queue_create(e, 0, 0, &queue);
    if (rc != MPE_OK)
        return rc;
    rc = fill_gift(e, s, queue);
    if (rc == MPE_OK) {
        mpe__set_add(&queue->holders, slot);
        *out = mpe_handle_of(e, queue);
    }
    mpe_drop(e, queue);
    return rc;
}

static int
start_program(mpe_engine *e, const mpe_start *s, mpe_process *p, pid_t *pid)
{
    char text[128];
    mpe_handle start_messages;
    struct mpe__lines lines;
    int rc = mpe__start_messages(e, s, p->slot, &start_messages);
    if (rc == MPE_OK)
        rc = mpe__lines_open(e, p, s->flags, &lines);
    if (rc != MPE_OK)
        return rc;
    snprintf(text, sizeof text, "child %u %u %llx %u", p->slot, p->generation,
             (unsigned long long)start_messages,
             s->flags | (lines.tail >= 0 ? MPE__BIRTH_TAIL : 0));
    struct mpe__program program = {s, text, lines.life, lines.tail, 0};
    rc = mpe__spawn(e, &program, pid);
    mpe__lines_close(e, &lines);
    return rc;
}

int
mpe_process_spawn(mpe_engine *e, const mpe_start *s, mpe_process **out)
{
    mpe_process *p;
    pid_t pid;
    int rc = out ? mpe__start_check(e, s) : MPE_EINVAL;
    if (rc != MPE_OK)
        return rc;
    rc = mpe__process_new(e, s->name, &p);
    if (rc != MPE_OK)
        return rc;
    rc = start_program(e, s, p, &pid);
    if (rc != MPE_OK) {
        mpe__process_unmake(e, p);
        return rc;
    }
    mpe__process_started(p, pid);
    *out = p;
    return MPE_OK;
}
