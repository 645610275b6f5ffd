/* Attributes, small helpers and the atomic accesses that shared-memory protocols are written with.
 *
 * A protocol store is a release store with a compiler fence on both sides: a process that dies
 * leaves exactly a prefix of its stores in program order behind, so recovery is argued one store at
 * a time. (The kernel marks the death after all of them, on the processor that did them or one that
 * has taken over from it, so its mark publishes them.)
 *
 * A protocol load is sequentially consistent, so that it is not done before a read-modify-write that
 * stands before it: "set my bit, then look". On x86 that is the plain load, on aarch64 the LDAR which an
 * acquire load is as well, but for its weaker form LDAPR. A store that must be seen before a load needs more: a
 * read-modify-write in its place or between the two, or mpe__fence.
 */
#ifndef MPE_BASE_DEFS_H
#define MPE_BASE_DEFS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define MPE__COUNTOF(a) (sizeof(a) / sizeof((a)[0]))
#define MPE__CONTAINER(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define MPE__LIKELY(x) __builtin_expect(!!(x), 1)
#define MPE__UNLIKELY(x) __builtin_expect(!!(x), 0)
#define MPE__COLD __attribute__((cold, noinline))

typedef _Atomic uint16_t mpe__a16;
typedef _Atomic uint32_t mpe__a32;
typedef _Atomic uint64_t mpe__a64;

_Static_assert(sizeof(mpe__a16) == 2 && sizeof(mpe__a32) == 4 && sizeof(mpe__a64) == 8,
               "shared words are plain words");

static inline uint16_t
mpe__load16(const mpe__a16 *p)
{
    return atomic_load(p);
}

static inline uint32_t
mpe__load32(const mpe__a32 *p)
{
    return atomic_load(p);
}

static inline uint64_t
mpe__load64(const mpe__a64 *p)
{
    return atomic_load(p);
}

static inline void
mpe__store16(mpe__a16 *p, uint16_t v)
{
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(p, v, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
}

static inline void
mpe__store32(mpe__a32 *p, uint32_t v)
{
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(p, v, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
}

static inline void
mpe__store64(mpe__a64 *p, uint64_t v)
{
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(p, v, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
}

/* Everything before it is visible to other threads before anything after it, loads included. The
 * thread sanitizer does not model fences; an exchange of the same strength takes its place
 * there. */
static inline void
mpe__fence(void)
{
#ifdef __SANITIZE_THREAD__
    static mpe__a32 word;
    atomic_fetch_add(&word, 0);
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

/* Between a read-modify-write and loads that are not protocol loads. On x86 the instruction is a fence
 * itself. */
static inline void
mpe__fence_after(void)
{
#if defined(__x86_64__) || defined(__i386__)
    atomic_signal_fence(memory_order_seq_cst);
#else
    mpe__fence();
#endif
}

static inline void
mpe__pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

/* The cache line will be written to soon. Only advice. */
static inline void
mpe__will_write(const volatile void *p)
{
#if defined(__x86_64__)
    __asm__ __volatile__("prefetchw %0" : : "m"(*(const volatile char *)p));
#else
    __builtin_prefetch((const void *)p, 1);
#endif
}

static inline uint64_t
mpe__round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

#endif
