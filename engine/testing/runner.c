/* SPDX-License-Identifier: MIT */
/*
 * Runs the cases of one test program, each in a process of its own, and counts them.
 *
 * The count of failed expectations is in memory shared with everything a case starts, so a
 * failure seen only by a grandchild is not lost. The last line printed is `N passed, N failed`;
 * the exit status is 0 only when nothing failed. Not part of the engine, linked only into tests.
 */
#include "testing/mpe_test.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Shared with every process of the case that runs. */
struct outcome {
    atomic_int failures;
    atomic_bool skipped;
    char why_skipped[100];
    atomic_bool is_finished; /* the function of the case has returned */
};

static struct mpe_test_case *first_case;
static struct mpe_test_case **last_link = &first_case;
static struct outcome *outcome;

/* Under the sanitizers too, an impossible allocation returns NULL. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__tsan_default_options(void);

const char *
__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

const char *
__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

void
mpe_test_add(struct mpe_test_case *added)
{
    *last_link = added;
    last_link = &added->next;
}

/* One write, so that lines of several processes do not mix. */
void
mpe_test_fail(const char *file, int line, const char *format, ...)
{
    char text[2048];
    size_t used = (size_t)snprintf(text, sizeof text, "%s:%d: ", file, line);
    va_list args;
    va_start(args, format);
    vsnprintf(text + used, sizeof text - used - 1, format, args);
    va_end(args);
    used = strlen(text);
    text[used++] = '\n';
    fflush(stdout);
    if (write(STDOUT_FILENO, text, used) < 0)
        perror("mpe_test_fail");
    atomic_fetch_add(&outcome->failures, 1);
}

int
mpe_test_failures(void)
{
    return atomic_load(&outcome->failures);
}

_Noreturn void
mpe_test_stop(void)
{
    fflush(stdout);
    _exit(1);
}

_Noreturn void
mpe_test_skip(const char *why)
{
    fflush(stdout);
    snprintf(outcome->why_skipped, sizeof outcome->why_skipped, "%s", why);
    atomic_store(&outcome->skipped, true);
    _exit(0);
}

void
mpe_test_needs_deaths(void)
{
    void *list;
    size_t bytes;
    if (syscall(SYS_get_robust_list, 0, &list, &bytes) != 0)
        mpe_test_skip("needs robust futexes, which are not to be had here");
}

bool
mpe_test_true(const char *file, int line, bool is_true, const char *text)
{
    if (!is_true)
        mpe_test_fail(file, line, "expected %s", text);
    return is_true;
}

bool
mpe_test_int(const char *file, int line, intmax_t got, intmax_t want, const char *text)
{
    if (got != want)
        mpe_test_fail(file, line, "%s is %jd (%#jx), expected %jd (%#jx)", text, got,
                      (uintmax_t)got, want, (uintmax_t)want);
    return got == want;
}

bool
mpe_test_str(const char *file, int line, const char *got, const char *want, const char *text)
{
    bool is_same = got == want || (got && want && strcmp(got, want) == 0);
    if (!is_same)
        mpe_test_fail(file, line, "%s is \"%s\", expected \"%s\"", text, got ? got : "(null)",
                      want ? want : "(null)");
    return is_same;
}

static int64_t
now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int
slowness(void)
{
    const char *factor = getenv("MPE_TEST_SLOW");
    int n = factor ? atoi(factor) : 1;
    return n > 0 ? n : 1;
}

static int
limit_of(const struct mpe_test_case *run)
{
    const char *limit = getenv("MPE_TEST_LIMIT");
    return limit && atoi(limit) > 0 ? atoi(limit) : run->limit_s * slowness();
}

/* The process of one case. exit, not _exit: leak checkers report there. */
static _Noreturn void
run_here(const struct mpe_test_case *run, const sigset_t *mask)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigprocmask(SIG_SETMASK, mask, NULL);
    run->run();
    atomic_store(&outcome->is_finished, true);
    exit(0);
}

/* Waits for the process; false when the limit passes first. SIGCHLD is blocked meanwhile. */
static bool
wait_for(pid_t pid, int64_t limit_ms, int *status)
{
    int64_t deadline = now_ms() + limit_ms;
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    for (;;) {
        if (waitpid(pid, status, WNOHANG) == pid)
            return true;
        int64_t left = deadline - now_ms();
        if (left <= 0)
            return false;
        struct timespec timeout = {left / 1000, (left % 1000) * 1000000};
        sigtimedwait(&child, NULL, &timeout);
    }
}

/* Writes to `why` what is wrong with the end of the process, or leaves it empty. */
static void
judge(bool has_ended, int status, int limit_s, char *why, size_t size)
{
    int failures = atomic_load(&outcome->failures);
    *why = '\0';
    if (!has_ended)
        snprintf(why, size, "still running after %d s", limit_s);
    else if (WIFSIGNALED(status))
        snprintf(why, size, "killed by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else if (failures)
        snprintf(why, size, "%d failed expectation%s", failures, failures > 1 ? "s" : "");
    else if (WEXITSTATUS(status))
        snprintf(why, size, "exit status %d", WEXITSTATUS(status));
    else if (!atomic_load(&outcome->is_finished) && !atomic_load(&outcome->skipped))
        snprintf(why, size, "ended before its end");
}

/* Is it among those that MPE_TEST_SKIP names? Then why. */
static bool
is_left_out(const struct mpe_test_case *run, char *why, size_t size)
{
    const char *path = getenv("MPE_TEST_SKIP");
    FILE *f = path ? fopen(path, "r") : NULL;
    size_t length = strlen(run->name);
    bool found = false;
    char line[256];
    while (f && !found && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        found = strncmp(line, run->name, length) == 0 && line[length] == ' ';
    }
    if (f)
        fclose(f);
    if (found)
        snprintf(why, size, "%s", line + length + 1);
    return found;
}

/* Whether the case passed. */
static bool
run_case(const struct mpe_test_case *run)
{
    if (is_left_out(run, outcome->why_skipped, sizeof outcome->why_skipped)) {
        printf("skip  %s: %s\n", run->name, outcome->why_skipped);
        atomic_store(&outcome->skipped, true);
        return true;
    }
    int limit_s = limit_of(run);
    int64_t start = now_ms();
    atomic_store(&outcome->failures, 0);
    atomic_store(&outcome->skipped, false);
    atomic_store(&outcome->is_finished, false);
    fflush(NULL);

    sigset_t child, before;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, &before);
    pid_t pid = fork();
    if (pid == 0)
        run_here(run, &before);
    if (pid < 0) {
        printf("FAIL  %s: fork: %s\n", run->name, strerror(errno));
        return false;
    }
    setpgid(pid, pid);
    int status = 0;
    bool has_ended = wait_for(pid, limit_s * INT64_C(1000), &status);
    kill(-pid, SIGKILL);
    if (!has_ended)
        waitpid(pid, NULL, 0);
    sigprocmask(SIG_SETMASK, &before, NULL);

    char why[128];
    judge(has_ended, status, limit_s, why, sizeof why);
    if (*why)
        printf("FAIL  %s: %s\n", run->name, why);
    else if (atomic_load(&outcome->skipped))
        printf("skip  %s: %s\n", run->name, outcome->why_skipped);
    else
        printf("ok    %s (%d ms)\n", run->name, (int)(now_ms() - start));
    return !*why;
}

static bool
is_wanted(const struct mpe_test_case *run, char **parts)
{
    if (!*parts)
        return true;
    for (; *parts; parts++)
        if (strstr(run->name, *parts))
            return true;
    return false;
}

int
main(int argc, char **argv)
{
    bool only_list = argc > 1 && strcmp(argv[1], "-l") == 0;
    bool in_place = argc > 1 && strcmp(argv[1], "-n") == 0;
    char **parts = argv + 1 + (only_list || in_place);
    int passed = 0, failed = 0;

    setlinebuf(stdout);
    outcome = mmap(NULL, sizeof *outcome, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                   0);
    if (outcome == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    for (struct mpe_test_case *run = first_case; run; run = run->next) {
        if (!is_wanted(run, parts))
            continue;
        if (only_list)
            puts(run->name);
        else if (in_place)
            run->run();
        else if (!run_case(run))
            failed++;
        else if (!atomic_load(&outcome->skipped))
            passed++;
    }
    if (only_list)
        return 0;
    if (in_place)
        return atomic_load(&outcome->failures) != 0;
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
