/* SPDX-License-Identifier: MIT */
/*
 * Included before every engine source that the tests of deaths link (the compiler's -include),
 * and nowhere else. There is a kill point before each store, exchange, compare-and-swap and
 * fetch-and-modify of a word, each use of a robust mutex and each change of the memory file. A
 * test kills a process at the n-th point that it passes (testing/deaths.h).
 *
 * Plain stores between two points are part of the step that ends at the second: no other process
 * may read them before an atomic store has announced them.
 *
 * The stores of words that order a protocol, mpe__store32 and mpe__store64, can also be left out
 * or done after the store that follows, to check that the tests notice (testing/mutants_test.c).
 */
#ifndef MPE_TEST_KILL_POINTS_H
#define MPE_TEST_KILL_POINTS_H

#include "base/defs.h"
#include "os/os.h"

#include <pthread.h>

/* Passes a point; kills this process when it is the chosen one. */
void mpe_test_point(const char *file, int line);
/* The same, and the store; text is its arguments as written. */
void mpe_test_store32(const char *file, int line, const char *text, mpe__a32 *p, uint32_t v);
void mpe_test_store64(const char *file, int line, const char *text, mpe__a64 *p, uint64_t v);

#ifndef MPE_TEST_KILL_POINTS_OWN
#define MPE_TEST_POINT() mpe_test_point(__FILE__, __LINE__)

#define mpe__store16(p, v) (MPE_TEST_POINT(), mpe__store16(p, v))
#define mpe__store32(p, v) mpe_test_store32(__FILE__, __LINE__, #p ", " #v, p, v)
#define mpe__store64(p, v) mpe_test_store64(__FILE__, __LINE__, #p ", " #v, p, v)

/* The builtins behind <stdatomic.h> of gcc and of clang. A macro does not expand inside itself. */
#define __atomic_store(...) (MPE_TEST_POINT(), __atomic_store(__VA_ARGS__))
#define __atomic_exchange(...) (MPE_TEST_POINT(), __atomic_exchange(__VA_ARGS__))
#define __atomic_compare_exchange(...) (MPE_TEST_POINT(), __atomic_compare_exchange(__VA_ARGS__))
#define __atomic_fetch_add(...) (MPE_TEST_POINT(), __atomic_fetch_add(__VA_ARGS__))
#define __atomic_fetch_sub(...) (MPE_TEST_POINT(), __atomic_fetch_sub(__VA_ARGS__))
#define __atomic_fetch_or(...) (MPE_TEST_POINT(), __atomic_fetch_or(__VA_ARGS__))
#define __atomic_fetch_and(...) (MPE_TEST_POINT(), __atomic_fetch_and(__VA_ARGS__))
#define __c11_atomic_store(...) (MPE_TEST_POINT(), __c11_atomic_store(__VA_ARGS__))
#define __c11_atomic_exchange(...) (MPE_TEST_POINT(), __c11_atomic_exchange(__VA_ARGS__))
#define __c11_atomic_compare_exchange_strong(...)                                                  \
    (MPE_TEST_POINT(), __c11_atomic_compare_exchange_strong(__VA_ARGS__))
#define __c11_atomic_compare_exchange_weak(...)                                                    \
    (MPE_TEST_POINT(), __c11_atomic_compare_exchange_weak(__VA_ARGS__))
#define __c11_atomic_fetch_add(...) (MPE_TEST_POINT(), __c11_atomic_fetch_add(__VA_ARGS__))
#define __c11_atomic_fetch_sub(...) (MPE_TEST_POINT(), __c11_atomic_fetch_sub(__VA_ARGS__))
#define __c11_atomic_fetch_or(...) (MPE_TEST_POINT(), __c11_atomic_fetch_or(__VA_ARGS__))
#define __c11_atomic_fetch_and(...) (MPE_TEST_POINT(), __c11_atomic_fetch_and(__VA_ARGS__))

#define pthread_mutex_trylock(m) (MPE_TEST_POINT(), pthread_mutex_trylock(m))
#define pthread_mutex_consistent(m) (MPE_TEST_POINT(), pthread_mutex_consistent(m))
#define pthread_mutex_unlock(m) (MPE_TEST_POINT(), pthread_mutex_unlock(m))
#define mpe__memfd_commit(...) (MPE_TEST_POINT(), mpe__memfd_commit(__VA_ARGS__))
#define mpe__memfd_release(...) (MPE_TEST_POINT(), mpe__memfd_release(__VA_ARGS__))
#define mpe__futex_wake(...) (MPE_TEST_POINT(), mpe__futex_wake(__VA_ARGS__))
#define mpe__datagram_ring(...) (MPE_TEST_POINT(), mpe__datagram_ring(__VA_ARGS__))
#endif

#endif
