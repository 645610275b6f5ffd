/* SPDX-License-Identifier: MIT
 *
 * lanswer.c - a process answers the questions of readers (lview.h), and SIGQUIT.
 *
 * A question arrives as MPE_ASK_SIGNAL, which this process shares with lticker.c. It is answered where
 * the handlers of mp.signal run: at a wait of the main task, or between two instructions of the
 * script's code. hooks.answer makes the answer in pieces, each in some milliseconds, and between
 * two of them the program goes on.
 *
 * SIGQUIT starts a reader, which writes to this process's standard error. It is started in the
 * handler itself, so that a process that blocks in C code shows where it is as well: by a child in
 * a child, each as vfork makes them but on a stack of its own, and execve. None of them touches
 * what the process was doing. (Of a vfork in a vfork the address sanitizer keeps one return address
 * for both.) The process between the two ends at once, so that no child is left. */
#include "base/lmodules.h"
#include "base/lsystem.h"
#include "process/lprocess.h"
#include "process/lview.h"
#include "task/lcancel.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define QUESTIONS 8        /* that wait; further ones are not answered */
#define TEXT_MAX 4096      /* of a question */
#define VARIABLES 1000     /* of the environment, for a reader */
#define READER_STACK 16384 /* bytes, of each of the two */
#define PID_DIGITS 10
#define PID_PLACE "PID       " /* so wide */

static struct {
    lmpe *S;
    volatile sig_atomic_t count; /* questions that wait */
    struct {
        pid_t pid;
        int file;
        uint64_t at; /* when the signal arrived */
    } asked[QUESTIONS];
    uint64_t arrived; /* of the one that is being answered */
    int file, news;   /* of the one that is being answered; -1: none */
    int making;       /* a piece: code of the script's may run, such as __tostring, and be hooked */
    int is_main;      /* the first process of the program */
    int quit_ignored; /* when this program began: the terminal's SIGQUIT is not for it */
    char *reader[4];  /* its arguments */
    char *pid;        /* where in them the number is */
    mpe_job job;      /* goes on with an answer */
} own = {.file = -1, .news = -1};

/* ---- questions ---- */

static void
on_urgent(const void *siginfo)
{
    const siginfo_t *info = siginfo;
    if (!own.S || !own.S->e || info->si_code != SI_QUEUE || own.count == QUESTIONS)
        return;
    own.asked[own.count].pid = info->si_pid;
    own.asked[own.count].file = info->si_value.sival_int;
    own.asked[own.count].at = mpe_now();
    own.count = own.count + 1;
    own.S->answers = 1;
    lmpe_alert(own.S, 1);
}

int
lmpe_is_asked(const lmpe *S)
{
    return S == own.S && !S->pauses && !own.making && (own.count > 0 || own.news >= 0);
}

static void
take_first(pid_t *pid, int *file)
{
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    *pid = own.asked[0].pid;
    *file = own.asked[0].file;
    own.arrived = own.asked[0].at;
    own.count = own.count - 1;
    memmove(own.asked, own.asked + 1, (size_t)own.count * sizeof *own.asked);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

/* The text of a question in that file of a process, or NULL; then it is a reader's no longer. */
static const char *
open_question(pid_t pid, int file, char *text)
{
    static const char name[] = "/memfd:" LMPE_QUESTION;
    char path[64], link[64] = "", *end;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, file);
    if (readlink(path, link, sizeof link - 1) < 0 || strncmp(link, name, sizeof name - 1) != 0)
        return NULL;
    own.file = open(path, O_RDWR | O_CLOEXEC);
    ssize_t n = own.file < 0 ? -1 : read(own.file, text, TEXT_MAX - 1);
    if (n <= 0 || ftruncate(own.file, 0) != 0 || lseek(own.file, 0, SEEK_SET) != 0)
        return NULL;
    text[n] = '\0';
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, (int)strtol(text, &end, 10));
    own.news = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    return own.news < 0 || *end != ' ' ? NULL : end + 1;
}

/* 0 when the reader is gone. */
static int
tell(char what)
{
    sigset_t pipe, before, pending;
    struct timespec now = {0, 0};
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
    int is_there = write(own.news, &what, 1) == 1 || errno != EPIPE;
    if (!is_there && !sigismember(&pending, SIGPIPE))
        while (sigtimedwait(&pipe, NULL, &now) < 0 && errno == EINTR)
            ;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return is_there;
}

static void
close_question(void)
{
    if (own.file >= 0)
        close(own.file);
    if (own.news >= 0)
        close(own.news);
    own.file = own.news = -1;
}

static void
write_all(const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = write(own.file, bytes, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* no memory: the reader finds an answer that is cut off */
        bytes += n;
        size -= (size_t)n;
    }
}

/* Begins with the text, or goes on with NULL. 1 when the answer is whole. The collector runs as ever: what
 * stops it makes it go through all of the program when it is started again. */
static int
make_piece(lua_State *L, const char *text)
{
    int top = lua_gettop(L), is_whole = 1;
    size_t size;
    luaL_checkstack(L, 6, NULL);
    lmpe_push_hook(L, "answer");
    lua_pushstring(L, text);
    own.making = 1;
    int rc = lua_pcall(L, 1, 2, 0);
    own.making = 0;
    if (rc == LUA_OK) {
        const char *bytes = lua_tolstring(L, -2, &size);
        if (bytes)
            write_all(bytes, size);
        is_whole = !lua_toboolean(L, -1);
    }
    lua_settop(L, top);
    return is_whole;
}

/* The reader has ended in the middle: nothing is kept for it. */
static void
give_up(lua_State *L)
{
    int top = lua_gettop(L);
    close_question();
    luaL_checkstack(L, 6, NULL);
    lmpe_push_hook(L, "answer");
    lua_pushboolean(L, 0);
    (void)lua_pcall(L, 1, 0, 0);
    lua_settop(L, top);
}

static void go_on(mpe_engine *e, mpe_job *job);

/* The signal comes to the thread that runs Lua, and nothing here is interrupted by another one. */
void
lmpe_answer(lua_State *L, lmpe *S)
{
    char text[TEXT_MAX];
    const char *question = NULL;
    if (own.news < 0) {
        pid_t pid;
        int file;
        take_first(&pid, &file);
        question = open_question(pid, file, text);
        if (!question) {
            close_question();
            S->answers = own.count > 0;
            return;
        }
        tell(LMPE_ANSWER_BEGUN);
    }
    int is_whole = make_piece(L, question);
    mpe_loop_look_next(S->e);
    if (is_whole) {
        tell(LMPE_ANSWER_DONE);
        close_question();
    } else if (!tell(LMPE_ANSWER_BEGUN)) { /* and it goes on */
        give_up(L);
    }
    if (!lmpe_is_asked(S)) {
        S->answers = 0;
        return;
    }
    lmpe_hook(S, LMPE_TICK_INSTRUCTIONS); /* the loop may not be run again */
    S->pauses = 1;                        /* the code that runs goes on for a while */
    own.job.run = go_on;
    mpe_post(S->e, &own.job); /* and others have their turn */
}

/* The loop runs, and its driver is a task that waits in place. */
static void
go_on(mpe_engine *e, mpe_job *job)
{
    lmpe *S = own.S;
    (void)job;
    if (!S || S->e != e)
        return;
    S->pauses = 0;
    if (lmpe_is_asked(S))
        lmpe_answer(S->driver, S);
}

/* ---- SIGQUIT ---- */

static void
set_pid(void)
{
    char digits[PID_DIGITS + 1];
    int n = 0;
    for (unsigned pid = (unsigned)getpid(); pid > 0; pid /= 10)
        digits[n++] = (char)('0' + pid % 10);
    for (int i = 0; i < PID_DIGITS; i++)
        own.pid[i] = i < n ? digits[n - 1 - i] : ' ';
}

struct start {
    char *variables[VARIABLES + 1];
    _Alignas(16) char child[READER_STACK], grandchild[READER_STACK];
};

/* Runs f in a child that shares the memory of this process, which waits until the child has ended or
 * is another program. Its number, or -1. */
static pid_t
borrow(int (*f)(void *start), char stack[READER_STACK], struct start *s)
{
    return clone(f, stack + READER_STACK, CLONE_VM | CLONE_VFORK | SIGCHLD, s);
}

/* In the grandchild. */
static int
become_reader(void *start)
{
    struct start *s = start;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    execve("/proc/self/exe", own.reader, s->variables);
    static const char message[] = "mpengine: cannot start a reader to write the dump\n";
    return write(STDERR_FILENO, message, sizeof message - 1) < 0 ? 126 : 127;
}

static int
start_and_end(void *start)
{
    struct start *s = start;
    return borrow(become_reader, s->grandchild, s) < 0;
}

static void
start_reader(void)
{
    extern char **environ;
    struct start s;
    int n = 0, status;
    for (char **v = environ; v && *v && n < VARIABLES; v++)
        if (strncmp(*v, "MPENGINE_", 9) != 0)
            s.variables[n++] = *v;
    s.variables[n] = NULL;
    set_pid();
    pid_t pid = borrow(start_and_end, s.child, &s);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
}

/* What the terminal sends goes to all processes of the program: one of them is enough. */
static void
on_quit(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    (void)number, (void)context;
    if (own.pid && (info->si_code <= 0 || (own.is_main && !own.quit_ignored)))
        start_reader();
    errno = saved;
}

void
lmpe_quit_install(void)
{
    struct sigaction a = {.sa_sigaction = on_quit, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigfillset(&a.sa_mask);
    sigaction(SIGQUIT, &a, NULL);
}

/* An argument in which PID_PLACE stands for the number of this process. */
static void
set_argument(int i, const char *text)
{
    free(own.reader[i]);
    own.reader[i] = strdup(text);
    char *at = own.reader[i] ? strstr(own.reader[i], PID_PLACE) : NULL;
    own.pid = at ? at : own.pid;
}

/* reader_code(code): what stock Lua runs as a reader; "PID       " stands for the number of this
 * process. The command runs itself. */
static int
reader_code(lua_State *L)
{
    const char *code = luaL_checkstring(L, 1);
    if (lmpe_self(L)->is_command)
        return 0;
    set_argument(0, "lua");
    set_argument(1, "-e");
    set_argument(2, code);
    return 0;
}

/* asked_for() -> seconds between the signal of the question and now: C code ran, or blocked */
static int
asked_for(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)(mpe_now() - own.arrived) / MPE_NS_PER_S);
    return 1;
}

/* ---- opening ---- */

void
lmpe_answers_open(lmpe *S)
{
    int alive;
    struct sigaction now;
    close_question();
    own.S = S;
    own.count = 0;
    own.making = 0;
    S->answers = S->pauses = 0;
    own.job.queued = 0; /* in a child: that of its parent */
    own.is_main = mpe_parent_pid(S->e, &alive) == 0;
    if (own.is_main && sigaction(SIGQUIT, NULL, &now) == 0 && !own.quit_ignored)
        own.quit_ignored = now.sa_handler == SIG_IGN;
    if (S->is_command && !own.pid) {
        set_argument(0, "mpengine");
        set_argument(1, "dump");
        set_argument(2, PID_PLACE);
    }
    lmpe_urgent = on_urgent;
    lmpe_signal_keep(MPE_ASK_SIGNAL);
    lmpe_urgent_install();
    if (!S->is_host) /* whose program is no reader */
        lmpe_quit_install();
    mpe_self_answers(S->e, 1);
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"reader_code", reader_code}, {"asked_for", asked_for}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}

static void
on_close(lua_State *L, lmpe *S)
{
    (void)L;
    if (own.S != S)
        return;
    if (S->e)
        mpe_self_answers(S->e, 0);
    close_question();
    own.S = NULL;
}

const lmpe_module lmpe_answer_module = {.open = on_open, .close = on_close};
