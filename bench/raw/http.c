/* The server of the http rows, the same for all clients.
 *   http COMMAND...   serves, and runs the client in the foreground with the URL as its last argument. /small is 5
 *       bytes; any other path is 100 MB.
 */
#include "bench.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define BIG ((size_t)100 << 20)

static char *big;

static int
send_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL);
        if (n <= 0)
            return 0;
        bytes += n;
        size -= (size_t)n;
    }
    return 1;
}

static int
answer(int fd, const char *request)
{
    char head[128];
    static const char small[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    if (strncmp(request, "GET /small ", 11) == 0)
        return send_all(fd, small, sizeof small - 1);
    int n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", BIG);
    return send_all(fd, head, (size_t)n) && send_all(fd, big, BIG);
}

/* Requests have no body, and come one after another. */
static void *
serve_connection(void *arg)
{
    int fd = (int)(long)arg;
    char request[4096];
    size_t have = 0;
    for (;;) {
        ssize_t n = recv(fd, request + have, sizeof request - 1 - have, 0);
        if (n <= 0)
            break;
        have += (size_t)n;
        request[have] = 0;
        if (!strstr(request, "\r\n\r\n"))
            continue;
        if (!answer(fd, request))
            break;
        have = 0;
    }
    close(fd);
    return NULL;
}

_Noreturn static void
serve(int listener)
{
    int on = 1;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    big = malloc(BIG);
    bench_check(big != NULL, "malloc");
    memset(big, 'x', BIG);
    for (;;) {
        pthread_t thread;
        int fd = accept(listener, NULL, NULL);
        bench_check(fd >= 0, "accept");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        bench_check(pthread_create(&thread, NULL, serve_connection, (void *)(long)fd) == 0, "thread");
        pthread_detach(thread);
    }
}

int
main(int argc, char **argv)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof a;
    char url[64];
    if (argc < 2) {
        fprintf(stderr, "usage: http COMMAND...\n");
        return 1;
    }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bench_check(bind(listener, (struct sockaddr *)&a, sizeof a) == 0 && listen(listener, 128) == 0,
                "listen");
    getsockname(listener, (struct sockaddr *)&a, &size);
    if (fork() == 0)
        serve(listener);
    snprintf(url, sizeof url, "http://127.0.0.1:%d", ntohs(a.sin_port));
    char **command = calloc((size_t)argc + 1, sizeof *command);
    memcpy(command, argv + 1, (size_t)(argc - 1) * sizeof *command);
    command[argc - 1] = url;
    execvp(command[0], command);
    fprintf(stderr, "%s: not found\n", command[0]);
    return 127;
}
