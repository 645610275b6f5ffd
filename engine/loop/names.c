/* Looking up host names. The C library's functions block, for half a minute when a name server
 * is silent, and cannot be cancelled. But only they know all the sources of a name (the files of
 * the host, DNS, modules of the name service switch). So they run on threads of the pool for
 * slow work (offload.c): a slow name delays neither a fast one nor other work.
 *
 * A question is asked once, however many askers wait for its answer: in an engine the askers of
 * a name that is being looked up share one question. An asker that leaves abandons it. Its
 * thread goes on, and when it has ended the question is freed, unless another asker has joined.
 * A question that is still queued is then not run at all. */
#include "base/buf.h"
#include "loop/loop.h"
#include "core/door.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_MAX (1u << 20) /* for the aliases of one host */

/* A question that is abandoned while it is queued is not run, and not found by others any more. */
enum { IN_LINE, RUNS, LEFT, DONE };

struct mpe__question {
    struct mpe__question *next; /* of the engine, until it is done */
    enum mpe_lookup_kind kind;
    char *name, *service; /* NULL: not given */
    mpe_lookup *askers;
    atomic_int state;
    mpe_buf found; /* the memory of the answer's text */
    mpe_lookup_answer answer;
};

struct mpe_lookup {
    struct mpe__question *q;
    pid_t owner;
    mpe_lookup *next; /* of its question */
    mpe_waitlist waiters;
};

/* ---- on the thread ---- */

static void
add(struct mpe__question *q, char tag, const char *text)
{
    if (mpe_buf_append(&q->found, &tag, 1) != MPE_OK ||
        mpe_buf_append(&q->found, text, strlen(text) + 1) != MPE_OK)
        q->answer.error = EAI_MEMORY;
}

static char
tag_of(int family)
{
    return family == AF_INET ? MPE_LOOKUP_INET : MPE_LOOKUP_INET6;
}

/* The addresses of a name, or the names and the service of given addresses. */
static void
ask_info(struct mpe__question *q)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    mpe_lookup_answer *a = &q->answer;
    int numeric = q->kind == MPE_LOOKUP_ADDRESSES;
    char host[NI_MAXHOST], service[NI_MAXSERV] = "";
    a->error = getaddrinfo(q->name, q->service, &hints, &list);
    a->number = errno;
    if (a->error)
        return;
    for (struct addrinfo *i = list; i && !a->error; i = i->ai_next) {
        a->error = getnameinfo(i->ai_addr, i->ai_addrlen, host, sizeof host, service,
                               sizeof service, numeric ? NI_NUMERICHOST | NI_NUMERICSERV : 0);
        a->number = errno;
        if (!a->error)
            add(q, numeric ? tag_of(i->ai_family) : MPE_LOOKUP_NAME, host);
    }
    if (!numeric && !a->error)
        add(q, MPE_LOOKUP_SERVICE, service);
    freeaddrinfo(list);
}

/* By the address when the name is an address. ERANGE: the buffer is too small. */
static int
get_host(const char *name, char *buffer, size_t size, struct hostent *h, int *error)
{
    struct in_addr in;
    struct hostent *found = NULL;
    int rc = inet_aton(name, &in)
                 ? gethostbyaddr_r(&in, sizeof in, AF_INET, h, buffer, size, &found, error)
                 : gethostbyname_r(name, h, buffer, size, &found, error);
    if (found)
        *error = 0; /* otherwise the error of an earlier source */
    else if (rc == 0 && *error == 0)
        *error = HOST_NOT_FOUND;
    return rc;
}

/* A host with its other names and its IPv4 addresses. */
static void
ask_host(struct mpe__question *q)
{
    mpe_lookup_answer *a = &q->answer;
    struct hostent h;
    char *buffer = NULL, text[INET_ADDRSTRLEN];
    int rc = ERANGE;
    for (size_t size = 8192; rc == ERANGE && size <= BUFFER_MAX; size *= 2) {
        free(buffer);
        a->error = 0;
        if (!(buffer = malloc(size)))
            break;
        rc = get_host(q->name, buffer, size, &h, &a->error);
    }
    a->number = buffer ? rc : ENOMEM;
    if (rc != 0 && a->error == 0)
        a->error = NETDB_INTERNAL;
    if (a->error == 0) {
        add(q, MPE_LOOKUP_NAME, h.h_name);
        for (char **alias = h.h_aliases; *alias; alias++)
            add(q, MPE_LOOKUP_ALIAS, *alias);
        for (char **at = h.h_addr_list; *at; at++)
            add(q, MPE_LOOKUP_INET, inet_ntop(AF_INET, *at, text, sizeof text));
    }
    free(buffer);
}

static void
free_question(void *ud)
{
    struct mpe__question *q = ud;
    mpe_buf_free(&q->found);
    free(q->name);
    free(q->service);
    free(q);
}

static void
work(void *ud)
{
    struct mpe__question *q = ud;
    int state = IN_LINE;
    if (!atomic_compare_exchange_strong(&q->state, &state, RUNS))
        return;
    if (q->kind == MPE_LOOKUP_HOST)
        ask_host(q);
    else
        ask_info(q);
}

/* ---- on the loop ---- */

static void
take_out(mpe_engine *e, struct mpe__question *q)
{
    struct mpe__question **p = &e->loop->questions;
    while (*p && *p != q)
        p = &(*p)->next;
    if (*p)
        *p = q->next;
}

static void
on_end(mpe_engine *e, void *ud, int status)
{
    struct mpe__question *q = ud;
    (void)status;
    take_out(e, q);
    atomic_store(&q->state, DONE);
    q->answer.text = (mpe_bytes){q->found.data, q->found.len};
    for (mpe_lookup *l = q->askers; l; l = l->next) {
        mpe_keep_alive(e, -1);
        mpe_waitlist_wake(e, &l->waiters, UINT32_MAX); /* they only post what will run */
    }
    if (!q->askers)
        free_question(q);
}

/* ---- asking ---- */

static int
same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static char *
copy(const char *text)
{
    return text ? strdup(text) : NULL;
}

/* A question that is in progress, and will be answered. */
static struct mpe__question *
find(mpe_engine *e, enum mpe_lookup_kind kind, const char *name, const char *service)
{
    for (struct mpe__question *q = e->loop->questions; q; q = q->next)
        if (q->kind == kind && same(q->name, name) && same(q->service, service))
            return q;
    return NULL;
}

static int
ask(mpe_engine *e, enum mpe_lookup_kind kind, const char *name, const char *service,
    struct mpe__question **out)
{
    struct mpe__question *q = calloc(1, sizeof *q);
    if (!q)
        return MPE_ENOMEM;
    q->kind = kind;
    q->name = copy(name);
    q->service = copy(service);
    mpe_buf_init(&q->found);
    int rc = (name && !q->name) || (service && !q->service)
                 ? MPE_ENOMEM
                 : mpe__offload_slow(e, work, on_end, free_question, q);
    if (rc != MPE_OK) {
        int saved = errno;
        free_question(q);
        errno = saved;
        return rc;
    }
    q->next = e->loop->questions;
    e->loop->questions = q;
    *out = q;
    return MPE_OK;
}

int
mpe_lookup_start(mpe_engine *e, enum mpe_lookup_kind kind, const char *name, const char *service,
                 mpe_lookup **out)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    struct mpe__question *q = find(e, kind, name, service);
    mpe_lookup *l = mpe__new_zeroed(&e->memory, sizeof *l);
    int rc = !l ? MPE_ENOMEM : q ? MPE_OK : ask(e, kind, name, service, &q);
    if (rc != MPE_OK) {
        int saved = errno;
        mpe__delete(&e->memory, l, sizeof *l);
        errno = saved;
        return rc;
    }
    *l = (mpe_lookup){.q = q, .owner = getpid(), .next = q->askers};
    q->askers = l;
    mpe_keep_alive(e, 1);
    *out = l;
    return MPE_OK;
}

const mpe_lookup_answer *
mpe_lookup_answered(mpe_lookup *l)
{
    return atomic_load(&l->q->state) == DONE ? &l->q->answer : NULL;
}

mpe_waitlist *
mpe_lookup_waiters(mpe_lookup *l)
{
    return &l->waiters;
}

/* It has no asker any more. */
static void
leave(mpe_engine *e, struct mpe__question *q)
{
    int state = IN_LINE;
    if (atomic_load(&q->state) == DONE)
        free_question(q);
    else if (atomic_compare_exchange_strong(&q->state, &state, LEFT))
        take_out(e, q);
}

void
mpe_lookup_free(mpe_engine *e, mpe_lookup *l)
{
    struct mpe__question *q = l->q;
    mpe_lookup **p = &q->askers;
    if (l->owner != getpid())
        return; /* of the process that this one was forked from */
    mpe_waitlist_wake(e, &l->waiters, UINT32_MAX);
    while (*p != l)
        p = &(*p)->next;
    *p = l->next;
    mpe__delete(&e->memory, l, sizeof *l);
    if (atomic_load(&q->state) != DONE)
        mpe_keep_alive(e, -1); /* an abandoned question is not waited for */
    if (!q->askers)
        leave(e, q);
}
