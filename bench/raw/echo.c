/* The load of the echo rows, and their limit.
 *   echo CONNECTIONS IDLE COMMAND...   starts a server, which prints its port; CONNECTIONS clients send 64
 *       bytes each as soon as the answer to the last ones is there, beside IDLE ones that only
 *       are connected. Wall time of an answer. IDLE "bytes": what an idle connection costs the server;
 *       "http": they send requests of HTTP instead, "ws": messages of 58 bytes to a WebSocket.
 *   echo serve                         the server of a C program with epoll
 */
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE 64
#define EVENTS 256

static int epoll, connections, port;
static pid_t server;

static void
watch(int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    bench_check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
}

static void
set_no_delay(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* ---- server ---- */

static void
answer(int fd)
{
    char bytes[4096];
    ssize_t n = read(fd, bytes, sizeof bytes);
    if (n <= 0)
        close(fd);
    else
        bench_check(write(fd, bytes, (size_t)n) == n, "write");
}

_Noreturn static void
serve(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof a;
    struct epoll_event events[EVENTS];
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    bench_check(bind(listener, (struct sockaddr *)&a, sizeof a) == 0 && listen(listener, 1024) == 0,
                "listen");
    getsockname(listener, (struct sockaddr *)&a, &size);
    printf("%d\n", ntohs(a.sin_port));
    fflush(stdout);
    watch(listener);
    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd != listener) {
                answer(events[i].data.fd);
                continue;
            }
            int fd = accept(listener, NULL, NULL);
            bench_check(fd >= 0, "accept");
            set_no_delay(fd);
            watch(fd);
        }
    }
}

/* ---- load ---- */

static void
start_server(char **command)
{
    int out[2];
    char text[32] = {0};
    bench_check(pipe(out) == 0, "pipe");
    server = fork();
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(out[1], 1);
        close(out[0]);
        close(out[1]);
        execvp(command[0], command);
        fprintf(stderr, "%s: not found\n", command[0]);
        _exit(127);
    }
    close(out[1]);
    FILE *f = fdopen(out[0], "r");
    if (!f || !fgets(text, sizeof text, f) || (port = atoi(text)) == 0) {
        fprintf(stderr, "the server did not tell its port: %s", text);
        exit(1);
    }
}

static int
connect_client(void)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    bench_check(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0, "connect");
    set_no_delay(fd);
    return fd;
}

/* What is asked, how long its answer is, and how far that of each connection has arrived. */
static char question[256];
static size_t question_size = SIZE, answer_size = SIZE;
static size_t *arrived;

static void
ask(int fd)
{
    bench_check(write(fd, question, question_size) == (ssize_t)question_size, "write");
}

/* All answers of a server are of one length, that of the first. */
static void
speak_http(int fd)
{
    char bytes[4096];
    size_t n = 0;
    question_size = (size_t)sprintf(question, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    ask(fd);
    while (n < 5 || memcmp(bytes + n - 5, "hello", 5) != 0) {
        ssize_t part = read(fd, bytes + n, sizeof bytes - n);
        bench_check(part > 0, "no answer");
        n += (size_t)part;
    }
    answer_size = n;
}

/* The handshake, byte by byte, since a frame may be behind it. The zero mask changes nothing. */
static void
speak_websocket(int fd)
{
    static const char handshake[] =
        "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    char last[4] = {0};
    bench_check(write(fd, handshake, sizeof handshake - 1) == sizeof handshake - 1, "write");
    while (memcmp(last, "\r\n\r\n", 4) != 0) {
        memmove(last, last + 1, 3);
        bench_check(read(fd, last + 3, 1) == 1, "no answer");
    }
    question[0] = (char)0x82;
    question[1] = (char)(0x80 | (SIZE - 6));
    answer_size = SIZE - 4;
}

/* Reads a part of an answer: 1 when it is whole. */
static int
receive(int fd)
{
    char bytes[4096];
    ssize_t n = read(fd, bytes, answer_size - arrived[fd]);
    bench_check(n > 0, "an answer is missing");
    arrived[fd] += (size_t)n;
    if (arrived[fd] < answer_size)
        return 0;
    arrived[fd] = 0;
    return 1;
}

static int *clients;

/* n answers over all connections. */
static void
load(long n)
{
    struct epoll_event events[EVENTS];
    long asked = 0, answered = 0;
    for (int i = 0; i < connections && asked < n; i++, asked++)
        ask(clients[i]);
    while (answered < n) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            if (!receive(events[i].data.fd))
                continue;
            answered++;
            if (asked < n) {
                ask(events[i].data.fd);
                asked++;
            }
        }
    }
}

static long
resident(void)
{
    char path[64], line[256];
    long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)server);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        sscanf(line, "VmRSS: %ld kB", &kib);
    if (f)
        fclose(f);
    return kib * 1024;
}

int
main(int argc, char **argv)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    epoll = epoll_create1(0);
    if (argc == 2)
        serve();
    if (argc < 4) {
        fprintf(stderr, "usage: echo CONNECTIONS IDLE COMMAND...\n");
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    connections = atoi(argv[1]);
    start_server(argv + 3);
    clients = calloc((size_t)connections, sizeof *clients);
    arrived = calloc(files.rlim_max, sizeof *arrived);
    for (int i = 0; i < connections; i++) {
        watch(clients[i] = connect_client());
        if (strcmp(argv[2], "http") == 0 && i == 0)
            speak_http(clients[i]);
        else if (strcmp(argv[2], "ws") == 0)
            speak_websocket(clients[i]);
    }
    load(connections * 10L);
    long before = resident();
    int idle = strcmp(argv[2], "bytes") == 0 ? 5000 : atoi(argv[2]);
    for (int i = 0; i < idle; i++)
        connect_client();
    load(connections * 10L); /* the server has accepted them: connections are served in order */
    if (strcmp(argv[2], "bytes") == 0)
        bench_report((double)(resident() - before) / idle, "bytes");
    else
        bench_ns(load, 1000);
    kill(server, SIGKILL);
    return 0;
}
