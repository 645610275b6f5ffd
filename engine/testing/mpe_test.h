/* SPDX-License-Identifier: MIT */
/*
 * The C unit tests: how a case is written and which checks it may use.
 *
 * A file `thing_test.c` beside `thing.c` is one program. Each TEST in it is one fact, named as a
 * sentence, and registers itself:
 *
 *     #include "testing/mpe_test.h"
 *     #include "base/buf.h"
 *
 *     TEST(keeps_what_was_appended_when_it_grows)
 *     {
 *         ...
 *         EXPECT_EQ(buf.len, 3);
 *     }
 *
 * Every case runs in a process of its own, in its own process group, with a time limit. A crash
 * or a hang fails that case and no other, and the processes it leaves running are killed. An
 * expectation may fail in any process or thread that the case started; the case fails then.
 *
 * `main` is in runner.c. Its arguments are parts of case names to run; `-l` lists the names, `-n`
 * runs in this process, with no limit, for a debugger. MPE_TEST_SLOW=n makes every limit n times longer,
 * MPE_TEST_LIMIT=n makes it n seconds. MPE_TEST_SKIP names a file with cases that are skipped, a line
 * each: the name, and why.
 */
#ifndef MPE_TEST_H
#define MPE_TEST_H

#include <stdbool.h>
#include <stdint.h>

struct mpe_test_case {
    const char *name;
    void (*run)(void);
    int limit_s;
    struct mpe_test_case *next; /* in the order of the file */
};

void mpe_test_add(struct mpe_test_case *added);

/* Reports a failed expectation. The case goes on. Any thread or process of the case. */
void mpe_test_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* How many have failed in this case so far. */
int mpe_test_failures(void);

/* Ends this process of the case at once, after a failure that makes it impossible to go on. */
_Noreturn void mpe_test_stop(void);

/* Ends the case as neither passed nor failed: this machine lacks what it needs. */
_Noreturn void mpe_test_skip(const char *why);
/* Skips the case where the kernel does not mark what a killed process had locked: programs of another
 * processor under qemu-user. */
void mpe_test_needs_deaths(void);

/* 1 under a sanitizer, which needs addresses and threads of its own; and under that of threads,
 * which must see each thread end. */
#ifdef __SANITIZE_THREAD__
#define MPE_TEST_TSAN 1
#else
#define MPE_TEST_TSAN 0
#endif
#if MPE_TEST_TSAN || defined __SANITIZE_ADDRESS__
#define MPE_TEST_SANITIZED 1
#else
#define MPE_TEST_SANITIZED 0
#endif

/* The checks behind the macros: each reports and returns false when its condition does not hold. */
bool mpe_test_true(const char *file, int line, bool is_true, const char *text);
bool mpe_test_int(const char *file, int line, intmax_t got, intmax_t want, const char *text);
bool mpe_test_str(const char *file, int line, const char *got, const char *want, const char *text);

#define TEST(case_name) TEST_LIMIT(case_name, 10)

#define TEST_LIMIT(case_name, seconds)                                                             \
    static void case_name(void);                                                                   \
    __attribute__((constructor)) static void case_name##_add(void)                                 \
    {                                                                                              \
        static struct mpe_test_case added = {#case_name, case_name, seconds, 0};                   \
        mpe_test_add(&added);                                                                      \
    }                                                                                              \
    static void case_name(void)

/* The actual value is first, the expected one second. Each returns whether it held. */
#define EXPECT(cond) mpe_test_true(__FILE__, __LINE__, (cond), #cond)
#define EXPECT_EQ(got, want)                                                                       \
    mpe_test_int(__FILE__, __LINE__, (intmax_t)(got), (intmax_t)(want), #got)
#define EXPECT_STR(got, want) mpe_test_str(__FILE__, __LINE__, (got), (want), #got)
#define EXPECT_OK(call) EXPECT_EQ(call, 0)

/* For conditions that the rest of the case depends on. */
#define REQUIRE(cond) (EXPECT(cond) ? (void)0 : mpe_test_stop())
#define REQUIRE_OK(call) (EXPECT_OK(call) ? (void)0 : mpe_test_stop())

#endif
